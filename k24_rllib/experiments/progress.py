"""One line of progress for each result that a trial sends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from k24_rllib.experiments.evaluate import score, score_reference
from k24_rllib.experiments.stopping import (
    ENV_STEPS,
    GREEDY_RETURN,
    GREEDY_WIN_RATE,
    ITERATIONS,
    SECONDS,
    TRAINING_RETURN,
    TRAINING_WIN_RATE,
    result_value,
)
from k24_rllib.reporting import duration

FIRST_ROUND_EVERY_S = 0.5
"""Seconds between looks for the first rounds of trials that have no result yet."""

Label = Callable[[Trial, Sequence[Trial]], str]
"""Returns how the lines about a trial begin, given all trials."""


@dataclass
class _Pace:
    """Where a trial was when it was last reported, and when this session began on it."""

    first_steps: float
    first_time: float
    last_steps: float
    last_time: float


class Progress(Callback):
    """Prints one line per result, at most one every `every_s` seconds and trial beside those that matter.

    A line reads `steps 120,000/500,000 (24%) | return -54.3 | greedy -50.1 (score 0.56) | 950 steps/s | eta 5:20`,
    with the share of episodes won behind returns where the environment knows of winning;
    with several trials it begins with the trial's number and what sets it apart, or with what `label` says.
    """

    def __init__(self, stop: Mapping[str, float], every_s: float = 2.0, label: Label | None = None) -> None:
        self._stop = stop
        self._every_s = every_s
        self._label = label or tag
        self._paces: dict[str, _Pace] = {}
        self._references: dict[str, tuple[float, float] | None] = {}
        self._asked = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says that a trial begins (workers take some seconds to start)."""
        print(f"{self._label(trial, trials)}started; results in {trial.path}", flush=True)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Prints what trials have to say, and the first round of those whose first result is still to come."""
        from k24_rllib.qmix.first_round import ask

        now = time.monotonic()
        if now - self._asked < FIRST_ROUND_EVERY_S:
            return
        self._asked = now
        self._print_notices(trials)
        for trial in trials:
            if trial.status != Trial.RUNNING or trial.trial_id in self._paces:
                continue
            first = ask(trial.trial_id)
            if first is not None:
                position = self._position({ENV_STEPS: first.steps}, first.steps)
                print(f"{self._label(trial, trials)}{position} | return {first.mean_return:.1f}", flush=True)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Prints what trials have said since."""
        self._print_notices(trials)

    def _print_notices(self, trials: Sequence[Trial]) -> None:
        """Prints the lines that trials have said, of which the process that trains has no other way to tell."""
        from k24_rllib.qmix.notices import heard

        by_id = {trial.trial_id: trial for trial in trials}
        for trial_id, text in heard(by_id):
            print(f"{self._label(by_id[trial_id], trials)}{text}", flush=True)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Prints a trial's progress."""
        now, steps = time.monotonic(), result_value(result, ENV_STEPS) or 0.0
        pace = self._paces.get(trial.trial_id)
        if pace is None:
            began = now - float(result.get("time_this_iter_s", 0.0))
            before = steps - float(result.get("num_env_steps_sampled_this_iter", steps))
            pace = self._paces[trial.trial_id] = _Pace(before, began, before, began)
        elif now - pace.last_time < self._every_s and not self._matters(result):
            return
        parts = [self._position(result, steps), *self._returns(trial, result), *self._speed(pace, result, steps, now)]
        print(self._label(trial, trials) + " | ".join(parts), flush=True)
        pace.last_steps, pace.last_time = steps, now

    def _matters(self, result: Mapping[str, Any]) -> bool:
        """Returns whether a result is printed however soon it comes: an evaluation's, and the trial's last."""
        return bool(result.get("done")) or result_value(result, GREEDY_RETURN) is not None

    def _position(self, result: Mapping[str, Any], steps: float) -> str:
        """Returns how far the trial is, in steps and as a share of its first known end."""
        share = self._share(result)
        percent = f" ({share:.0%})" if share is not None else ""
        if ENV_STEPS in self._stop:
            return f"steps {steps:,.0f}/{self._stop[ENV_STEPS]:,.0f}{percent}"
        return f"steps {steps:,.0f}{percent}"

    def _share(self, result: Mapping[str, Any]) -> float | None:
        """Returns the largest share done of the stop values that can only grow, or None without one."""
        shares = [
            (result_value(result, key) or 0.0) / self._stop[key]
            for key in (ENV_STEPS, ITERATIONS, SECONDS)
            if key in self._stop
        ]
        return min(max(shares), 1.0) if shares else None

    def _returns(self, trial: Trial, result: Mapping[str, Any]) -> list[str]:
        parts = []
        training, greedy = result_value(result, TRAINING_RETURN), result_value(result, GREEDY_RETURN)
        if training is not None and not math.isnan(training):
            parts.append(f"return {training:.1f}" + _won(result, TRAINING_WIN_RATE))
        if greedy is not None and not math.isnan(greedy):
            reference = self._reference(trial)
            scored = f" (score {score(greedy, reference):.2f})" if reference else ""
            parts.append(f"greedy {greedy:.1f}{scored}" + _won(result, GREEDY_WIN_RATE))
        return parts

    def _speed(self, pace: _Pace, result: Mapping[str, Any], steps: float, now: float) -> list[str]:
        if now <= pace.last_time:
            return []
        parts = [f"{(steps - pace.last_steps) / (now - pace.last_time):,.0f} steps/s"]
        if ENV_STEPS in self._stop and steps > pace.first_steps:
            per_second = (steps - pace.first_steps) / (now - pace.first_time)
            parts.append(f"eta {duration(max(self._stop[ENV_STEPS] - steps, 0.0) / per_second)}")
        return parts

    def _reference(self, trial: Trial) -> tuple[float, float] | None:
        """Returns the score's reference for the trial's environment, looked up once per trial."""
        if trial.trial_id not in self._references:
            self._references[trial.trial_id] = score_reference(trial.config["env"], trial.config.get("env_config"))
        return self._references[trial.trial_id]


def _won(result: Mapping[str, Any], key: str) -> str:
    """Returns the share of the episodes that were won, where the environment knows of winning."""
    rate = result_value(result, key)
    return "" if rate is None else f" ({rate:.0%} won)"


def tag(trial: Trial, trials: Sequence[Trial]) -> str:
    """Returns the trial's number and tag in brackets, or nothing if it is the only one."""
    if len(trials) == 1:
        return ""
    return f"[{trial.experiment_tag or trial.trial_id}] "
