"""What a comparison comes to: figures per method, as tables on stdout and as JSON."""

from __future__ import annotations

import statistics as middle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.methods import Comparison, Method
from k24_rllib.comparison.parameters import ParameterCount, parameters_of
from k24_rllib.comparison.runs import Point, Reading, Run
from k24_rllib.comparison.statistics import (
    FEWEST_TRUSTED,
    Array,
    Estimate,
    difference,
    estimate,
    probability_of_improvement,
)
from k24_rllib.reporting import duration, print_table, write_measured

PACKAGES = ("torch", "ray", "numpy", "scipy")
ALL_ENVIRONMENTS = "all environments"
METRIC_FORM = ".4g"
"""Metrics are of all scales: a divergence of 1e-5, a coefficient of thousands."""
SIZE_HEADINGS = {
    "parameters_trained": "parameters trained",
    "parameters_agent": "of an agent",
    "bytes_team": "bytes of the team",
}
"""Headings of `ParameterCount`'s fields."""


@dataclass(frozen=True)
class MetricFigure:
    """One of the learner's metrics of one method."""

    seeds: list[int]
    """Of the runs that have a value of it at the budget."""
    env_steps: list[int]
    """Of the iterations that are compared, one for each seed."""
    values: list[float]
    interquartile_mean: Estimate


@dataclass(frozen=True)
class Row:
    """The figures of one method."""

    method: str
    seeds: list[int]
    env_steps: list[int]
    """Of the evaluation that is compared, one for each seed."""
    returns: list[float]
    greedy_return: Estimate
    score: Estimate | None = None
    difference: Estimate | None = None
    """Of the greedy return to the first method's; None for that one."""
    probability: Estimate | None = None
    """That a run is better than one of the first method."""
    steps_per_s: float | None = None
    updates_per_s: float | None = None
    """Medians over runs of what was done by the whole time until then, evaluations included."""
    wall_s: float | None = None
    parameters: ParameterCount | None = None
    metrics: dict[str, MetricFigure | None] = field(default_factory=dict)
    """Those asked for, by their names; None for what the method does not report."""


@dataclass
class Table:
    """The rows of one environment."""

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    reference: tuple[float, float] | None = None


@dataclass(frozen=True)
class Budget:
    """Where runs are compared."""

    at: int | None = None
    """Environment steps; None takes the last that every run has reached."""
    window: int | None = None
    """Steps up to there of which all evaluations are averaged; None takes the one evaluation nearest to it.

    Of metrics, which every iteration reports, it is the iterations.
    """


def make_table(comparison: Comparison, budget: Budget, metrics: Sequence[str] = ()) -> Table:
    """Compares the methods of one environment, and `metrics` of theirs, at equal environment steps."""
    notes = list(comparison.notes)
    methods, at = _at_budget(comparison, budget, notes)
    chosen = {method.name: [_value(run.readings(None), at, budget.window) for run in method.runs] for method in methods}
    returns = {name: np.array([reading.value for reading in readings]) for name, readings in chosen.items()}
    baseline = returns[methods[0].name]
    rows = []
    for method in methods:
        mine, first = returns[method.name], method is methods[0]
        greedy = estimate([mine])
        steps = [reading.env_steps for reading in chosen[method.name]]
        rows.append(
            Row(
                method=method.name,
                seeds=[run.seed for run in method.runs if run.seed is not None],
                env_steps=steps,
                returns=mine.tolist(),
                greedy_return=greedy,
                score=_score(greedy, comparison.reference),
                difference=None if first else difference([mine], [baseline]),
                probability=None if first else probability_of_improvement([mine], [baseline]),
                **_speed([_point_at(run, step) for run, step in zip(method.runs, steps, strict=True)]),
                parameters=_parameters(method, notes),
                metrics=_metric_figures(method, metrics, at, budget.window, notes),
            )
        )
    notes += _warnings(rows)
    window = f", mean of the last {budget.window:,} steps' evaluations" if budget.window else ""
    title = f"{comparison.environment}: greedy team return at {at:,} environment steps{window}"
    return Table(title, rows, notes, comparison.reference)


def _at_budget(comparison: Comparison, budget: Budget, notes: list[str]) -> tuple[list[Method], int]:
    """Returns the budget in environment steps, and the methods with the runs that were evaluated there.

    Raises:
        ConfigError: if there is none.
    """
    runs = [(method.name, run) for method in comparison.methods for run in method.runs]
    name, shortest = min(runs, key=lambda named: named[1].last_step)
    longest = max(run.last_step for _, run in runs)
    first = min(run.points[0].env_steps for _, run in runs)
    at = shortest.last_step if budget.at is None else budget.at
    if budget.at is None and longest - at > _spacing(shortest):
        notes.append(
            f"compared where every run has been: {name} seed {shortest.seed} ends at {at:,} steps, "
            f"others go on to {longest:,} (--at STEPS leaves out shorter runs)"
        )
    methods = []
    for method in comparison.methods:
        kept = tuple(run for run in method.runs if _covers(run, at))
        lost = [str(run.seed) for run in method.runs if run not in kept]
        if lost:
            notes.append(f"{method.name}: left out, not evaluated at {at:,} steps: seed {', '.join(lost)}")
        if kept:
            methods.append(replace(method, runs=kept))
    if not methods:
        raise ConfigError(
            f"--at {at}: no run was evaluated there in {comparison.environment}, expected {first} to {longest}"
        )
    return methods, at


def _covers(run: Run, at: int) -> bool:
    """Returns whether a run has an evaluation at a budget, or one that no other would be nearer to."""
    slack = _spacing(run) / 2
    return run.points[0].env_steps - slack <= at <= run.last_step + slack


def _spacing(run: Run) -> float:
    """Returns the usual number of steps between a run's evaluations."""
    steps = [point.env_steps for point in run.points]
    return middle.median(np.diff(steps).tolist()) if len(steps) > 1 else steps[0]


def _value(readings: Sequence[Reading], at: int, window: int | None) -> Reading:
    """Returns a run's value at a budget, and the steps of what is nearest to it."""
    nearest = min(readings, key=lambda reading: abs(reading.env_steps - at))
    if window is None:
        return nearest
    end = nearest.env_steps
    return Reading(end, middle.fmean(value for steps, value in readings if end - window < steps <= end))


def _point_at(run: Run, steps: int) -> Point:
    return next(point for point in run.points if point.env_steps == steps)


def _metric_figures(
    method: Method, metrics: Sequence[str], at: int, window: int | None, notes: list[str]
) -> dict[str, MetricFigure | None]:
    """Returns `metrics` at a budget, of runs with a value at most an interval of evaluations away from it."""
    figures: dict[str, MetricFigure | None] = dict.fromkeys(metrics)
    for metric in metrics:
        found = [(run, _value(run.readings(metric), at, window)) for run in method.reporting(metric).runs]
        near = [(run, value) for run, value in found if abs(value.env_steps - at) <= _spacing(run)]
        lost = [str(run.seed) for run in method.runs if not any(run is taken for taken, _ in near)]
        if found and lost:
            notes.append(f"{method.name}: left out of {metric}, no value at {at:,} steps: seed {', '.join(lost)}")
        if near:
            values = [reading.value for _, reading in near]
            figures[metric] = MetricFigure(
                seeds=[run.seed for run, _ in near if run.seed is not None],
                env_steps=[reading.env_steps for _, reading in near],
                values=values,
                interquartile_mean=estimate([np.array(values)]),
            )
    return figures


def _score(greedy: Estimate, reference: tuple[float, float] | None) -> Estimate | None:
    if reference is None:
        return None
    random, scripted = reference
    return greedy.scaled(1 / (scripted - random), -random)


def _speed(points: Sequence[Point]) -> dict[str, float | None]:
    """Returns the medians over runs of steps/s, updates/s and seconds up to `points`."""
    timed = [point for point in points if point.wall_s > 0]
    if not timed:
        return {}
    updates = [point.updates / point.wall_s for point in timed if point.updates is not None]
    return {
        "steps_per_s": middle.median(point.env_steps / point.wall_s for point in timed),
        "updates_per_s": middle.median(updates) if updates else None,
        "wall_s": middle.median(point.wall_s for point in timed),
    }


def _parameters(method: Method, notes: list[str]) -> ParameterCount | None:
    """Returns the size of a method's networks, from its first run."""
    run = method.runs[0]
    if run.parameters is not None or run.directory is None:
        return run.parameters
    if run.algorithm is None:
        notes.append(f"{method.name}: parameters not counted: neither results nor directory tell the algorithm")
        return None
    settings = {**run.settings, "env": run.environment.name, "env_config": run.environment.config}
    try:
        return parameters_of(run.algorithm, settings, run.directory)
    except ConfigError as error:
        notes.append(f"{method.name}: parameters not counted: {error}")
        return None


def _warnings(rows: Sequence[Row]) -> list[str]:
    """Returns what must be said about few seeds."""
    single = [row.method for row in rows if len(row.seeds) == 1]
    few = [row.method for row in rows if 1 < len(row.seeds) < FEWEST_TRUSTED]
    notes = []
    if single:
        notes.append(f"a single seed has no interval: {', '.join(single)}")
    if few:
        notes.append(
            f"fewer than {FEWEST_TRUSTED} seeds: the IQM is the plain mean and the interval is too narrow to trust: "
            f"{', '.join(few)}"
        )
    return notes


def aggregate_table(comparisons: Sequence[Comparison], tables: Sequence[Table]) -> Table | None:
    """Compares the score over all environments, the bootstrap being stratified over them.

    None unless there are several, all with a known scale, and at least two methods that were run in each of them.
    """
    if len(tables) < 2 or any(comparison.reference is None for comparison in comparisons):
        return None
    scores = [scores_by_method(table) for table in tables]
    shared = [name for name in scores[0] if all(name in other for other in scores[1:])]
    if len(shared) < 2:
        return None
    strata = {name: [each[name] for each in scores] for name in shared}
    baseline = strata[shared[0]]
    rows = []
    for name in shared:
        mine, first = strata[name], name == shared[0]
        rows.append(
            Row(
                method=name,
                seeds=[],
                env_steps=[],
                returns=[],
                greedy_return=estimate(mine),
                score=estimate(mine),
                difference=None if first else difference(mine, baseline),
                probability=None if first else probability_of_improvement(mine, baseline),
            )
        )
    return Table(f"{ALL_ENVIRONMENTS}: score over {len(tables)} of them, bootstrap stratified", rows)


def scores_by_method(table: Table) -> dict[str, Array]:
    """Returns the score of each run by method, in an environment that has scores."""
    assert table.reference is not None
    random, scripted = table.reference
    return {row.method: (np.array(row.returns) - random) / (scripted - random) for row in table.rows}


def print_tables(tables: Sequence[Table]) -> None:
    """Prints each environment's figures: how good the methods are, what they cost, and the metrics asked for."""
    for table in tables:
        print(f"\n{table.title}")
        for number, rows in enumerate(table_cells(table)):
            if number > 0:
                print()
            print_table(rows)
        for note in table.notes:
            print(f"  note: {note}")


def table_cells(table: Table) -> list[list[list[str]]]:
    """Returns the cells of an environment's tables, headers first: how good, how dear, and the metrics asked for."""
    cells = [_result_rows(table)]
    if any(row.wall_s is not None for row in table.rows):
        cells.append(_cost_rows(table))
    if any(any(row.metrics.values()) for row in table.rows):
        cells.append(_metric_rows(table))
    return cells


def _result_rows(table: Table) -> list[list[str]]:
    """Returns the cells of the table that says how good the methods are; columns that nobody fills are left out."""
    first = table.rows[0].method
    aggregate = not table.rows[0].seeds
    rows = [["method", "seeds", "IQM return [95%]", "score [95%]", f"minus {first} [95%]", "P(better) [95%]"]]
    for row in table.rows:
        rows.append(
            [
                row.method,
                str(len(row.seeds)),
                _cell(row.greedy_return, ".1f"),
                _cell(row.score, ".2f"),
                _cell(row.difference, "+.2f" if aggregate else "+.1f"),
                _cell(row.probability, ".2f"),
            ]
        )
    return _without_empty_columns(rows, drop=(1, 2) if aggregate else ())


def _cost_rows(table: Table) -> list[list[str]]:
    """Returns the cells of the table that says what methods cost."""
    rows = [["method", "env steps", "wall time", "steps/s", "updates/s", *SIZE_HEADINGS.values()]]
    for row in table.rows:
        size = row.parameters
        rows.append(
            [
                row.method,
                _range(row.env_steps),
                "" if row.wall_s is None else duration(row.wall_s),
                "" if row.steps_per_s is None else f"{row.steps_per_s:,.0f}",
                "" if row.updates_per_s is None else f"{row.updates_per_s:,.1f}",
                *("" if size is None else f"{getattr(size, name):,}" for name in SIZE_HEADINGS),
            ]
        )
    return _without_empty_columns(rows)


def _metric_rows(table: Table) -> list[list[str]]:
    """Returns the cells of the table of metrics; those that nobody reports are left out."""
    rows = [["method", *(f"{name} [95%]" for name in table.rows[0].metrics)]]
    for row in table.rows:
        found = [None if figure is None else figure.interquartile_mean for figure in row.metrics.values()]
        rows.append([row.method, *(_cell(figure, METRIC_FORM) for figure in found)])
    return _without_empty_columns(rows)


def _cell(figure: Estimate | None, form: str) -> str:
    if figure is None:
        return ""
    if figure.low is None or figure.high is None:
        return format(figure.value, form)
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _range(steps: Sequence[int]) -> str:
    low, high = min(steps), max(steps)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _without_empty_columns(rows: list[list[str]], drop: Sequence[int] = ()) -> list[list[str]]:
    keep = [i for i in range(len(rows[0])) if i not in drop and any(row[i] for row in rows[1:])]
    return [[row[i] or "-" for i in keep] for row in rows]


def write_json(path: Path, tables: Sequence[Table]) -> None:
    """Writes everything in the tables, with versions and machine."""
    write_measured(path, PACKAGES, tables=[asdict(table) for table in tables])
