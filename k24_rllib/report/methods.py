"""Several runs: methods compared at equal steps, their curves, and the runs that they are made of."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.curves import Curve, learning_curves
from k24_rllib.comparison.methods import Comparison, compare_runs
from k24_rllib.comparison.runs import Run
from k24_rllib.comparison.sources import make_tables
from k24_rllib.comparison.table import table_cells
from k24_rllib.report.page import Chart, Line, Section, Table
from k24_rllib.report.reading import Trial
from k24_rllib.report.training import PANELS

FIGURES = "IQM over seeds with 95% bootstrap intervals; docs/comparing.md says how each figure is computed."


def comparison_sections(trials: Sequence[Trial], others: Sequence[Run] = ()) -> list[Section]:
    """Returns a section for each environment, and last one of what there is of each run.

    Args:
        trials: Runs that lie in directories.
        others: Runs that were read from CSV files.
    """
    sections = []
    runs = [trial.run for trial in trials] + list(others)
    try:
        comparisons = compare_runs(runs)
        tables = make_tables(comparisons)
    except ConfigError as error:
        sections.append(Section("Comparison", notes=[f"there is nothing to compare: {error}"]))
    else:
        for comparison, table in zip(comparisons, tables, strict=False):
            cells = [Table(rows) for rows in table_cells(table)]
            sections.append(Section(table.title, table.notes, cells, _charts(comparison)))
        for table in tables[len(comparisons) :]:
            sections.append(Section(table.title, table.notes, [Table(rows) for rows in table_cells(table)]))
    return [*sections, _runs_section(trials)] if trials else sections


def _charts(comparison: Comparison) -> list[Chart]:
    """Returns the curves of the return and of each metric that a panel of one run has."""
    names = [method.name for method in comparison.methods]
    second = None
    if comparison.reference is not None:
        random, scripted = comparison.reference
        second = ("score (0 = random policy, 1 = scripted)", 1 / (scripted - random), -random)
    greedy = [_line(curve, names) for curve in learning_curves(comparison.methods)]
    charts = [Chart("Greedy return", greedy, y_label="team return", about=FIGURES, second=second)]
    for title, metrics, about in PANELS:
        curves = learning_curves(comparison.methods, metrics[0])
        if curves:
            name = "" if title.lower() == metrics[0] else f" ({metrics[0]})"
            charts.append(Chart(f"{title}{name}", [_line(curve, names) for curve in curves], about=about))
    return charts


def _line(curve: Curve, names: Sequence[str]) -> Line:
    seeds = len(curve.method.runs)
    line = Line(
        f"{curve.method.name} ({seeds} seed{'s' * (seeds > 1)})",
        curve.env_steps.tolist(),
        curve.value.tolist(),
        style=names.index(curve.method.name),
    )
    if curve.low is None or curve.high is None:
        return line
    return replace(line, low=curve.low.tolist(), high=curve.high.tolist())


def _runs_section(trials: Sequence[Trial]) -> Section:
    """Returns a row for each run, and everything that is missing of any."""
    rows = [["run", "seed", "status", "environment steps", "last greedy return", "report of it alone"]]
    for trial in trials:
        points = trial.run.points
        rows.append(
            [
                trial.run.label,
                "-" if trial.run.seed is None else str(trial.run.seed),
                trial.status,
                f"{trial.steps:,}",
                f"{points[-1].greedy_return:.2f}" if points else "-",
                f"rllib report {shlex.quote(str(trial.directory))}",
            ]
        )
    notes = [f"{trial.directory.name}: {note}" for trial in trials for note in trial.notes]
    return Section("Runs", notes, [Table(rows)])
