"""The command in a session of its own, so that what is sent to the caller's process group reaches it alone, not Ray.

`timeout`, schedulers and terminals signal whole process groups. Ray's processes are started by the driver and would get
the signal too: the run that is to finish its iteration and save it would find its workers gone. So the process that the
user started keeps its place in the group and does nothing but hand signals on to a child, which runs the command in
another session, as does all that Ray starts for it. Where the parent is killed, the kernel kills the child, and with it
Ray's processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from k24_rllib.command_line import Stopped

HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run by way of a checkpoint."""
ONCE_S = 0.2
"""Seconds within which the same signal counts once."""
_PR_SET_PDEATHSIG = 1  # prctl.h


def run_in_own_session(command: Callable[[], int]) -> int:
    """Runs `command` in a child that leads a session of its own, hands signals on to it, and returns its exit code.

    To be called before there are threads. The child returns too, and is to leave as the parent is. Where the kernel
    can't end a child with its parent, which only Linux does, there is none and `command` runs here.
    """
    if not sys.platform.startswith("linux"):
        return command()
    wanted = [number for number in HANDED_ON if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)  # until both sides are ready for them
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _lead(parent, wanted)
        return command()
    hand_on = _HandOn(child)
    for number in wanted:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    _end_session(child)
    return 128 + os.WTERMSIG(status)


def _lead(parent: int, wanted: Sequence[signal.Signals]) -> None:
    """Makes this process the leader of a new session, which ends with its parent and stops when told to."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was killed before the kernel was asked
        os._exit(1)
    for number in wanted:
        signal.signal(number, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)


def _end_session(leader: int) -> None:
    """Kills what is left of a session whose leader was killed; some of Ray's processes would stay for a minute."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # it has ended meanwhile
            session = (process / "stat").read_text().rpartition(")")[2].split()[3]
            if int(session) == leader:
                os.kill(int(process.name), signal.SIGKILL)


class _HandOn:
    """Sends signals on to the child, if it is still there.

    `timeout` sends its signal to the process and then to the group: what comes twice at once was meant once.
    """

    def __init__(self, child: int) -> None:
        self._child = child
        self._last: tuple[int, float] = (0, 0.0)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now, (before, then) = time.monotonic(), self._last
        if number == before and now - then < ONCE_S:
            return
        self._last = (number, now)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the command where nothing is running yet that could be saved."""
    raise Stopped(number)
