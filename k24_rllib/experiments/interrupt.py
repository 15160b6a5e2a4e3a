"""Ctrl-C, SIGTERM and a closed terminal: let each running trial finish its iteration, save it, and leave it resumable.

Tune by itself drops running trials where they are, back to their last checkpoint, if they have one. Its scheduler
interface can pause a trial, which saves it first and keeps it as unfinished business for `--resume`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from types import FrameType
from typing import Any, Self, TextIO

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from k24_rllib.command_line import Stopped

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """While entered, remembers the first SIGINT, SIGTERM or SIGHUP; a second one ends the program at once.

    What the caller ignores stays ignored, as `nohup` has it with SIGHUP.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the user asked to stop."""
        return self.signal is not None

    def __enter__(self) -> Interrupt:
        for number in _HEARD:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise Stopped(number)
        self.signal = number
        if number == signal.SIGHUP:
            sys.stdout, sys.stderr = _Tolerant(sys.stdout), _Tolerant(sys.stderr)  # whoever read them may be gone
        print("stopping: finishing this iteration and saving it (again to leave at once)", file=sys.stderr, flush=True)


class _Tolerant(io.TextIOBase):
    """A stream that loses what can't be written any more, where other ones end the program that writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or doesn't."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, or doesn't."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def fileno(self) -> int:
        """Returns the descriptor of the stream."""
        return self._stream.fileno()


class Pausing(TrialScheduler):
    """Beside any of Tune's schedulers: once a stop is requested, pauses each trial with a checkpoint, starts no other.

    A class of its own is made by `class X(Pausing, TunesScheduler)`; `watch` says what is listened to.
    """

    _interrupt: Interrupt

    def watch(self, interrupt: Interrupt) -> Self:
        """Listens to `interrupt`, and returns the scheduler."""
        self._interrupt = interrupt
        return self

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pauses the trial if a stop is requested; otherwise the scheduler decides."""
        if self._interrupt.requested:
            return TrialScheduler.PAUSE
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Chooses none once a stop is requested."""
        return None if self._interrupt.requested else super().choose_trial_to_run(tune_controller)


class PausingScheduler(Pausing, FIFOScheduler):
    """Runs trials in order, until a stop is requested."""

    def __init__(self, interrupt: Interrupt) -> None:
        super().__init__()
        self.watch(interrupt)


class LeaveWhenPaused(Callback):
    """Ends Tune's loop once every trial that ran when the stop was requested is saved.

    Attributes:
        unfinished: The trials that had not come to their end when Tune's loop did, whatever ended it; Tune itself then
            calls those that ran terminated.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self.unfinished: list[Trial] = []
        self._interrupt = interrupt
        self._awaited: list[Trial] | None = None

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Checks on the trials after each event of Tune's loop."""
        self.unfinished = [trial for trial in trials if not trial.is_finished()]
        if not self._interrupt.requested:
            return
        if self._awaited is None:
            self._awaited = [trial for trial in trials if trial.status == Trial.RUNNING]
        if all(trial.status != Trial.RUNNING for trial in self._awaited):
            os.kill(os.getpid(), signal.SIGUSR1)  # Tune's own way to end its loop and write the experiment's state
