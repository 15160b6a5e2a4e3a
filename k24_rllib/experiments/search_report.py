"""What a search found: a ranking while it runs, a table, a CSV file, a picture, and the words that train the winner."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from k24_rllib.experiments.describe import as_yaml
from k24_rllib.experiments.experiment import Experiment
from k24_rllib.experiments.objective import Objective
from k24_rllib.experiments.search import label, trial_number
from k24_rllib.experiments.space import Axis, space_axes, value_at
from k24_rllib.experiments.stopping import ENV_STEPS, SECONDS, is_reached, result_value
from k24_rllib.reporting import duration, print_table

SHOWN = 10
"""Trials in the final table; the CSV file has all."""
RANKED = 5
"""Trials in a ranking while the search runs."""

BUDGET, SCHEDULER, TIME, ERROR, UNFINISHED = "budget", "scheduler", "time", "error", "unfinished"
"""Why a trial stopped: its own stop, the scheduler's decision, the search's time budget, an error, or not at all."""


@dataclass(frozen=True)
class Row:
    """One trial of a search."""

    trial: Any
    number: str
    values: dict[str, Any]
    metric: float
    measured_at: float
    steps: float
    seconds: float
    why: str


def make_rows(experiment: Experiment, trials: Sequence[Any]) -> list[Row]:
    """Returns the trials as they stand, the best first."""
    assert experiment.tune is not None
    objective, axes = experiment.tune.objective(), space_axes(experiment.config)
    rows = [_row(experiment, trial, objective, axes) for trial in trials]
    return sorted(rows, key=lambda row: (row.why == ERROR, objective.better(row.metric), int(row.number)))


def _row(experiment: Experiment, trial: Any, objective: Objective, axes: Sequence[Axis]) -> Row:
    result = trial.last_result or {}
    metric, measured_at = objective.last(result)
    return Row(
        trial=trial,
        number=trial_number(trial),
        values={axis.name: value_at(trial.config, axis.path) for axis in axes},
        metric=metric,
        measured_at=measured_at,
        steps=result_value(result, ENV_STEPS) or 0.0,
        seconds=result_value(result, SECONDS) or 0.0,
        why=_why(experiment, trial, result),
    )


def _why(experiment: Experiment, trial: Any, result: Mapping[str, Any]) -> str:
    if trial.status == "ERROR":
        return ERROR
    if trial.status != "TERMINATED":
        return UNFINISHED
    if is_reached(experiment.stop, result):
        return BUDGET
    assert experiment.tune is not None
    return TIME if experiment.tune.scheduler == "fifo" else SCHEDULER


def table_lines(rows: Sequence[Row], name: str) -> list[list[str]]:
    """Returns cells to print: a header, and a line for each trial."""
    lines = [["trial", name, "at step", "steps", "time", "stopped by", *(rows[0].values if rows else ())]]
    for row in rows:
        measured = "-" if math.isnan(row.metric) else f"{row.metric:.4g}"
        at = "-" if math.isnan(row.measured_at) else f"{row.measured_at:,.0f}"
        cells = [f"#{row.number}", measured, at, f"{row.steps:,.0f}", duration(row.seconds), row.why]
        lines.append([*cells, *(_short(value) for value in row.values.values())])
    return lines


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else as_yaml(value)


class Ranking(Callback):
    """Prints the best trials now and then, and says of each what it tries and why it stopped.

    Args:
        experiment: The search.
        every_s: Seconds between rankings, of which there are none with three trials or fewer.
    """

    def __init__(self, experiment: Experiment, every_s: float = 60.0) -> None:
        self._experiment, self._every_s = experiment, every_s
        self._last = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says what a trial tries."""
        axes = space_axes(self._experiment.config)
        tried = ", ".join(f"{axis.name} {_short(value_at(trial.config, axis.path))}" for axis in axes)
        print(f"{label(trial, trials)}tries {tried}", flush=True)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says how far a trial came; its status is not yet that of one that has ended."""
        steps = result_value(trial.last_result or {}, ENV_STEPS) or 0.0
        why = "done" if is_reached(self._experiment.stop, trial.last_result or {}) else "stopped early"
        print(f"{label(trial, trials)}{why} at {steps:,.0f} steps", flush=True)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Prints the ranking if it is time."""
        if len(trials) <= 3 or time.monotonic() - self._last < self._every_s:
            return
        self._last = time.monotonic()
        assert self._experiment.tune is not None
        rows = [row for row in make_rows(self._experiment, trials) if not math.isnan(row.metric)]
        if rows:
            print(f"--- the best of {len(trials)} trials so far")
            print_table([[*line[:4], *line[6:]] for line in self._lines(rows[:RANKED])])
            print("---", flush=True)

    def _lines(self, rows: Sequence[Row]) -> list[list[str]]:
        assert self._experiment.tune is not None
        return table_lines(rows, self._experiment.tune.metric)


def print_search(experiment: Experiment, rows: Sequence[Row]) -> None:
    """Prints the final table."""
    assert experiment.tune is not None
    shown = list(rows[:SHOWN])
    of = f", the best {len(shown)} of" if len(rows) > len(shown) else ","
    by = f"{experiment.tune.search_alg}, {experiment.tune.scheduler}"
    print(f"\n{experiment.name}: search by {by}{of} {len(rows)} trials")
    print_table(table_lines(shown, experiment.tune.metric))
    counts = {why: sum(row.why == why for row in rows) for why in (BUDGET, SCHEDULER, TIME, ERROR, UNFINISHED)}
    if rows and all(math.isnan(row.metric) for row in rows):
        print(f"note: no result had {experiment.tune.metric}, so nothing is ranked")
    print("stopped by     " + ", ".join(f"{why} {count}" for why, count in counts.items() if count), flush=True)


def write_search(experiment: Experiment, rows: Sequence[Row], directory: Path) -> list[str]:
    """Writes `search.csv` and `search.png` beside the results, and returns lines about them."""
    assert experiment.tune is not None
    directory.mkdir(parents=True, exist_ok=True)
    _write_csv(directory / "search.csv", rows, experiment.tune.metric)
    told = [f"all trials     {directory / 'search.csv'}"]
    measured = [row for row in rows if not math.isnan(row.metric)]
    if len(measured) < 2:
        return [*told, "no picture     fewer than two trials have measured the metric"]
    from k24_rllib.experiments.search_figure import draw_search, importances

    axes = space_axes(experiment.config)
    shares, reason = importances(axes, measured, experiment.tune.mode)
    if reason:
        told.append(f"no importances {reason}")
    draw_search(directory / "search.png", experiment, axes, measured, shares)
    return [*told, f"picture        {directory / 'search.png'}"]


def _write_csv(path: Path, rows: Sequence[Row], metric: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                "trial",
                metric,
                "measured_at",
                "steps",
                "seconds",
                "stopped_by",
                "path",
                *(rows[0].values if rows else ()),
            ]
        )
        for row in rows:
            values = [as_yaml(value) if isinstance(value, list | dict) else value for value in row.values.values()]
            given = [row.number, row.metric, row.measured_at, row.steps, row.seconds, row.why, row.trial.path]
            writer.writerow([*given, *values])


def winner_words(experiment: Experiment, row: Row) -> list[str]:
    """Returns the options of `rllib train` that repeat a trial: its values in full, its seed, a place of its own."""
    words: list[str] = []
    for axis in space_axes(experiment.config):
        if axis.path != ("seed",):
            words += ["--set", f"{axis.name}={as_yaml(row.values[axis.name])}"]
    seed = value_at(row.trial.config, ("seed",))
    if seed is not None:
        words += ["--seed", str(seed)]
    return [*words, "--storage-path", f"{experiment.directory}-winner"]
