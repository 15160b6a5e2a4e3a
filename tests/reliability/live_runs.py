"""Real runs of the command, looked at from outside: what they print, their processes, the addresses they listen on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180
LISTENS = "0A"  # include/net/tcp_states.h
LONGEST_LINE = 400


class LiveRun:
    """`rllib WORDS` in a process group of its own, with the `faulty` environment at hand."""

    def __init__(self, folder: Path, words: Sequence[str], before: Sequence[str] = ()) -> None:
        shutil.copy(Path(__file__).with_name("faulty_env.py"), folder)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "k24_rllib.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, what: Callable[[str], bool], patience_s: float = PATIENCE_S) -> str:
        """Waits for a line, and returns it."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            found = [line for line in self.lines if what(line)]
            if found:
                return found[0]
            assert not ended, self.text
            time.sleep(0.1)
        raise AssertionError(f"it was not said within {patience_s} s:\n{self.text}")

    def signal_group(self, number: int) -> None:
        """Sends what `timeout` and schedulers send."""
        os.killpg(self.process.pid, number)

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Waits for the end and returns the exit code."""
        code = self.process.wait(patience_s)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """Ends it whatever it is at."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def processes(self) -> list[int]:
        """Returns the process and all that it or its children have started."""
        parents: dict[int, list[int]] = {}
        for place in Path("/proc").glob("[0-9]*"):
            fields = stat_fields(int(place.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(place.name))
        found, waiting = [], [self.process.pid]
        while waiting:
            found.append(waiting.pop())
            waiting += parents.get(found[-1], [])
        return found

    def workers(self) -> list[int]:
        """Returns the processes of the rollout workers."""
        return [pid for pid in self.processes() if "QMixRolloutWorker" in command_line(pid)]


def write_experiment(folder: Path, tiny: dict[str, Any], **config: Any) -> list[str]:
    """Writes the tiny experiment, without an end, and returns the words that train it."""
    spec = {**tiny, "stop": {"timesteps_total": 10_000_000}, "checkpoint_config": {"checkpoint_frequency": 1}}
    spec["config"] = {**tiny["config"], "total_env_steps": 10_000_000, **config}
    if "how" in spec["config"].get("env_config", {}):
        spec["env"] = "faulty"
    (folder / "live.yaml").write_text(yaml.safe_dump({"live": spec}))
    return ["train", "-f", "live.yaml", "--storage-path", str(folder), "--import", "faulty_env"]


def stat_fields(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat after the name, of a process that has not ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def alive(pids: Sequence[int]) -> list[int]:
    """Returns those which have not ended."""
    return [pid for pid in pids if stat_fields(pid)]


def wait_until_gone(pids: Sequence[int], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while alive(pids):
        assert time.monotonic() < end, [command_line(pid) for pid in alive(pids)]
        time.sleep(0.2)


def addresses(pids: Sequence[int]) -> set[str]:
    """Returns the addresses at which processes listen for TCP connections."""
    listening: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS:
                listening[f"socket:[{fields[9]}]"] = _address(fields[1].partition(":")[0])
    found = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(handle)
            except OSError:  # closed meanwhile
                continue
            if target in listening:
                found.add(listening[target])
    return found


def _address(digits: str) -> str:
    """Returns an address of /proc/net, where each group of 32 bits is turned around, in the usual form."""
    groups = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    text = socket.inet_ntop(socket.AF_INET if len(groups) == 1 else socket.AF_INET6, b"".join(groups))
    return text.removeprefix("::ffff:")


def is_progress(line: str) -> bool:
    return line.startswith("steps ")


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("live/*/checkpoint_*/algorithm_state.pkl"))


def ray_directory(pids: Sequence[int]) -> Path:
    """Returns the directory of the Ray that these processes are part of, as its servers are told it."""
    found = [re.search(r"(/\S*/session_[-0-9_]+)/", command_line(pid)) for pid in pids]
    return next(Path(match[1]) for match in found if match)


def interrupt_and_check(run: LiveRun, folder: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Sends a signal to the whole group and checks for a checkpoint, the exit code and the line that resumes."""
    run.wait_for(is_progress)
    before = len(run.lines)
    processes = run.processes()
    run.signal_group(number)
    assert run.end(90) == 128 + number, run.text
    after = "\n".join(run.lines[before:])
    assert f"stopped by {number.name}" in after, run.text
    assert "go on with     rllib train -f live.yaml" in after, run.text
    assert "--resume" in after
    assert checkpoints(folder), run.text
    wait_until_gone(processes, 20)
