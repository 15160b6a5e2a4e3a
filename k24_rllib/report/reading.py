"""Reading a run for a report: whatever can be read of it, and a line for everything that can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.runs import Run, make_run, read_config, read_results, was_built
from k24_rllib.experiments.stopping import ENV_STEPS, ITERATIONS, SECONDS, result_value
from k24_rllib.reporting import duration

MOST_NOTES = 5
"""Lines about a damaged file; a word on how many more there are."""


@dataclass(frozen=True)
class Trial:
    """One trial as a report sees it."""

    directory: Path
    given: Mapping[str, Any]
    """The settings that it was given; nothing if they can't be read."""
    results: Sequence[Mapping[str, Any]]
    run: Run
    notes: list[str] = field(default_factory=list)
    """What is not there, or can't be read, a line each."""

    @property
    def last(self) -> Mapping[str, Any]:
        """The last result, or nothing."""
        return self.results[-1] if self.results else {}

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return int(result_value(self.last, ENV_STEPS) or 0)

    @property
    def status(self) -> str:
        """What became of it, in words."""
        if self.run.failure is not None:
            return f"failed ({self.run.failure.name} says why)"
        if self.last.get("done"):
            return "finished"
        return "not finished: still going on, or stopped"


def read(directory: Path, label: str | None = None) -> Trial:
    """Reads a trial; nothing that is wrong with its files is an error here."""
    notes: list[str] = []
    given: Mapping[str, Any] = {}
    results: list[dict[str, Any]] = []
    if was_built(directory):
        try:
            given = read_config(directory)
        except ConfigError as error:
            notes.append(f"settings: {error}")
        try:
            results = read_results(directory, notes)
        except ConfigError as error:
            notes.append(f"results: {error}")
    given = given or _config_of(results)
    notes = _shortened(notes)
    try:
        run = make_run(directory, given, results, label)
    except ConfigError as error:
        notes.append(f"results: {error}")
        results = []
        run = make_run(directory, given, results, label)
    trial = Trial(directory, given, results, run, notes)
    notes += _absences(trial)
    return trial


def _config_of(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns what a result says of the environment and the seed, where the settings themselves are lost."""
    config = results[-1].get("config") if results else None
    if not isinstance(config, Mapping):
        return {}
    return {key: config[key] for key in ("env", "env_config", "seed") if key in config}


def _shortened(notes: list[str]) -> list[str]:
    more = len(notes) - MOST_NOTES
    return notes if more <= 0 else [*notes[:MOST_NOTES], f"{more} more lines can't be read"]


def _absences(trial: Trial) -> list[str]:
    """Returns what a trial does not have: an environment, results, evaluations, an end."""
    run, notes = trial.run, []
    if not run.was_built:
        return [f"could not be built, so there is nothing to show: {run.failure} says why"]
    if not trial.results:
        return ["has no results yet"]
    if not run.points:
        interval = trial.given.get("evaluation_interval")
        why = f"evaluation_interval is {interval}" if interval else "set evaluation_interval to have some"
        notes.append(f"has no greedy evaluation in {_iterations(trial)} iterations: {why}")
    if run.failure is not None or not trial.last.get("done"):
        seconds = duration(result_value(trial.last, SECONDS) or 0.0)
        notes.append(f"{trial.status}: this is what there is at {trial.steps:,} environment steps, after {seconds}")
    return notes


def _iterations(trial: Trial) -> int:
    return int(result_value(trial.last, ITERATIONS) or len(trial.results))
