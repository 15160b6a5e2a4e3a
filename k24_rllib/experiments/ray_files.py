"""Ray's directory of a run under /tmp/ray: removed after it, kept where the run failed, and never anyone else's.

A directory that may go has a mark in it, with the process that started Ray. Without the mark nothing is removed; so a
run that failed takes its mark away, and what was not started here never had one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

MARK = "k24_rllib.json"
_STARTED = 19  # field of /proc/PID/stat after the name and the state, see proc(5): starttime


def mark(session: Path) -> None:
    """Marks the directory of a Ray that this process has started as one to remove."""
    own = os.getpid()
    (session / MARK).write_text(json.dumps({"pid": own, "started": _started(own), "where": _where()}))


def keep(session: Path) -> None:
    """Keeps a directory for whoever wants to know what happened."""
    (session / MARK).unlink(missing_ok=True)


def remove(session: Path) -> None:
    """Removes the directory of a Ray that has ended, if it is marked, and the link to it."""
    if not (session / MARK).is_file():
        return
    latest = session.parent / "session_latest"
    if latest.is_symlink() and latest.resolve() == session.resolve():
        latest.unlink(missing_ok=True)
    shutil.rmtree(session, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Removes marked directories whose Ray is gone though nobody could remove them, as after SIGKILL.

    They must be this user's, from this machine since it started and this container, the process that marked them must
    have ended, and no process may hold one of their sockets. Where that can't be told, they stay.
    """
    if not sys.platform.startswith("linux"):
        return
    for found in root.glob(f"session_*/{MARK}"):
        session = found.parent
        try:
            marked = json.loads(found.read_text())
            is_ours = found.stat().st_uid == session.stat().st_uid == os.getuid() and not session.is_symlink()
            is_ours = is_ours and marked["where"] == _where()
            if is_ours and _started(int(marked["pid"])) != marked["started"] and not _has_sockets(session):
                remove(session)
        except (OSError, ValueError, KeyError, TypeError):  # another run removes it just now, or wrote something else
            continue


def _started(pid: int) -> int | None:
    """Returns when a process started, in ticks since the machine did, or None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[_STARTED])


def _where() -> str | None:
    """Returns what tells machines, their starts and containers apart: in each, a process' number is another's."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _has_sockets(session: Path) -> bool:
    """Returns whether a process listens at a socket in the directory, as all of Ray's servers do."""
    return f"{session}/" in Path("/proc/net/unix").read_text()
