"""Rounds that take too long, noticed in the process that plays them.

A thread counts seconds while a round is being played and interrupts the playing thread by a signal, which also wakes it
from most waiting: `Overdue` is raised where the environment hangs, so that the traceback shows the place. Code that
neither returns to Python nor lets go of its lock can't be interrupted in this way; a remote worker is then ended by the
learner's process, and in the learner's process, which nobody watches, `last_resort` is called where Python still runs.

Seconds are counted, not read from a clock: a machine that was suspended, or a process that was stopped, is not overdue.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from k24_rllib.envs.faults import Overdue

GRACE_S = 15.0
"""Seconds that an interrupted round has to end."""
_TICK_S = 0.5
_SIGNAL = signal.SIGALRM


class RoundWatch:
    """A context within which a round is played, in at most `limit_s` seconds; None sets no limit.

    It can interrupt the main thread alone, and doesn't where the program has a use of its own for SIGALRM. Entering and
    leaving set a number: they cost nothing that could be measured.

    Args:
        limit_s: Seconds of a round.
        last_resort: Called, from the thread that watches, with the stack of a round that could not be interrupted.
    """

    def __init__(self, limit_s: float | None, last_resort: Callable[[str], None] | None = None) -> None:
        self._limit_s = limit_s
        self.last_resort = last_resort
        self._round = 0  # odd while one is played
        self._seen = 0
        self._passed_s = 0.0
        self._stopped = False
        self._is_watched = False
        self._thread: threading.Thread | None = None
        self._player = threading.main_thread()
        self._works = limit_s is not None and threading.current_thread() is self._player
        if self._works and signal.getsignal(_SIGNAL) in (signal.SIG_DFL, None):
            signal.signal(_SIGNAL, _interrupted)

    def __enter__(self) -> None:
        self._is_watched = self._works and threading.get_ident() == self._player.ident
        if not self._is_watched:
            return
        self._round += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._count, name="round watch", daemon=True)
            self._thread.start()

    def __exit__(self, *exception: object) -> None:
        if self._is_watched:
            self._round += 1

    def stop(self) -> None:
        """Ends the thread that counts."""
        self._stopped = True

    @property
    def is_overdue(self) -> bool:
        """Whether the round that is being played has had its time."""
        return self._round % 2 == 1 and self._round == self._seen and self._passed_s >= (self._limit_s or 0.0)

    def _count(self) -> None:
        """Is the thread: counts the seconds of each round, and acts when they are too many."""
        assert self._limit_s is not None
        was_overdue = False
        while not self._stopped:
            time.sleep(_TICK_S)
            if self._round % 2 == 0 or self._round != self._seen:
                self._seen, self._passed_s, was_overdue = self._round, 0.0, False
                continue
            self._passed_s += _TICK_S
            if self.is_overdue and not was_overdue:
                was_overdue = True
                self._interrupt()
            elif self._passed_s >= self._limit_s + GRACE_S and self.last_resort is not None:
                self.last_resort(self._stack())
                self._seen = 0

    def _interrupt(self) -> None:
        if signal.getsignal(_SIGNAL) is _interrupted and self._player.ident is not None:
            _watching.append(self)
            signal.pthread_kill(self._player.ident, _SIGNAL)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._player.ident or 0)
        return "".join(traceback.format_stack(frame))


_watching: list[RoundWatch] = []
"""Those that have sent the signal."""


def _interrupted(number: int, frame: FrameType | None) -> Any:
    """Raises in the main thread, unless the round was over just before the signal came."""
    while _watching:
        watch = _watching.pop()
        if watch.is_overdue:
            raise Overdue(f"did not return within {watch._limit_s:g} s of its round (sample_timeout_s)")
