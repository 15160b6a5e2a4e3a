"""Running a search through Tune: scheduler and Ctrl-C, the metric in every result, what `--resume` needs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, HyperBandScheduler, PopulationBasedTraining, TrialScheduler

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.interrupt import Interrupt, Pausing
from k24_rllib.experiments.objective import OBJECTIVE, Objective
from k24_rllib.experiments.population import keep_in_range
from k24_rllib.experiments.tune_section import SCHEDULERS, TuneSection

SECTION_FILE = "search-section.json"
SCHEDULER_FILE = "search-scheduler.pkl"


class Searching(Pausing):
    """Beside any of Tune's schedulers: gives it the metric where it was measured, and keeps what must not be lost.

    Tune writes a search's state every ten seconds or so. A trial that begins or ends in between would be forgotten, or
    run again, after a SIGKILL, so both are written at once.
    """

    _objective: Objective
    _keep: Path | None
    _unsaved: Any = None

    def take(self, objective: Objective, keep: Path | None) -> Searching:
        """Says what the metric is, and where the scheduler's own state is kept (None for nowhere)."""
        self._objective, self._keep = objective, keep
        return self

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Lets the scheduler decide by what was measured in this result; searchers get the last measured value."""
        value, known = self._objective.read(trial.config, result), self._objective.last(trial.last_result)[0]
        if value is not None or isinstance(self, HyperBandScheduler):  # which fails without
            result[OBJECTIVE] = known if value is None else value
        decision = super().on_trial_result(tune_controller, trial, result)
        result.setdefault(OBJECTIVE, known)
        self._write_state()
        return decision

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Takes a trial in, and has its beginning saved."""
        super().on_trial_add(tune_controller, trial)
        self._unsaved = tune_controller
        if isinstance(self, PopulationBasedTraining):
            self._remember(trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Takes note of a trial's end, and has it saved."""
        super().on_trial_complete(tune_controller, trial, result)
        self._unsaved = tune_controller
        self._write_state()

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Saves what has ended, as this is asked between any two events of Tune's loop."""
        if self._unsaved is not None:
            self._unsaved.checkpoint(force=True, wait=True)
            self._unsaved = None
        return super().choose_trial_to_run(tune_controller)

    def _remember(self, trial: Trial) -> None:
        """Puts a restored trial of a population where it was: Tune forgets, and would perturb it at once."""
        time, value = (trial.last_result or {}).get(self._time_attr), self._objective.last(trial.last_result)[0]
        if time is None:
            return
        state, interval = self._trial_state[trial], self._perturbation_interval
        state.last_perturbation_time = time // interval * interval
        state.last_train_time, state.last_score = time, self._metric_op * value
        state.last_result = trial.last_result

    def _write_state(self) -> None:
        """Keeps what asynchronous halving has seen; the others' memory is in their trials."""
        if self._keep is None or not isinstance(self, AsyncHyperBandScheduler):
            return
        draft = self._keep.with_suffix(".tmp")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(pickle.dumps((self._brackets, self._num_stopped)))
        draft.replace(self._keep)

    def read_state(self) -> None:
        """Takes over what an interrupted search has kept."""
        if self._keep is not None and self._keep.is_file() and isinstance(self, AsyncHyperBandScheduler):
            self._brackets, self._num_stopped = pickle.loads(self._keep.read_bytes())


def make_scheduler(tuned: TuneSection, interrupt: Interrupt, directory: Path | None, *, resume: bool) -> TrialScheduler:
    """Returns the section's scheduler, ready for `tune.run`.

    Args:
        tuned: The section.
        interrupt: What Ctrl-C is seen by.
        directory: The experiment's, if it is on this machine.
        resume: Whether to go on with what the directory has of it.
    """
    base, options = SCHEDULERS[tuned.scheduler].load("scheduler", tuned.scheduler), dict(tuned.scheduler_options)
    if tuned.scheduler == "pbt":
        options["custom_explore_fn"] = keep_in_range(options["hyperparam_mutations"])
    scheduler = type(f"Searching{base.__name__}", (Searching, base), {})(**options)
    scheduler.watch(interrupt).take(tuned.objective(), None if directory is None else directory / SCHEDULER_FILE)
    if resume:
        scheduler.read_state()
    return scheduler


class NoteObjective(Callback):
    """Puts the metric into every result before anything is written of it."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Adds it to one result; Tune hands the same one to its own files, and keeps it as the trial's last."""
        self._objective.note(trial.config, result, trial.last_result)


def write_section(directory: Path, tuned: TuneSection | None) -> None:
    """Leaves the section as the file has it beside the results, for `check_section`."""
    if tuned is None:
        (directory / SECTION_FILE).unlink(missing_ok=True)
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SECTION_FILE).write_text(json.dumps(tuned.given, default=str) + "\n")


def check_section(directory: Path, tuned: TuneSection | None) -> None:
    """Checks that the search which lies in `directory` is the one of this file.

    Raises:
        ConfigError: naming what differs.
    """
    file = directory / SECTION_FILE
    before: Mapping[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
    now = None if tuned is None else json.loads(json.dumps(tuned.given, default=str))
    if before == now:
        return
    if before is None or now is None:
        had, has = ("none", "one") if before is None else ("one", "none")
        raise ConfigError(f"tune: --resume goes on with a run as it was begun: it had {had}, the file has {has}")
    key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
    raise ConfigError(
        f"tune: {key}: got {now.get(key)!r}, expected {before.get(key)!r}: --resume goes on with a search as it began"
    )


def trial_number(trial: Trial) -> str:
    """Returns the number that Tune gave a trial."""
    return str(trial.experiment_tag or trial.trial_id).partition("_")[0].partition("@")[0].lstrip("0") or "0"


def label(trial: Trial, trials: Sequence[Trial]) -> str:
    """Returns how lines about a trial of a search begin."""
    return f"[#{trial_number(trial)}] "


def directory_name(trial: Trial) -> str:
    """Returns the name of a trial's directory: Tune's own would list every setting of the file."""
    return f"trial_{trial_number(trial)}_{trial.trial_id}"
