"""Every evaluation as a row of a CSV file, from which the tables and the figure can be made again.

With metrics, a row is an iteration at which one of them has a value: `greedy_return`, `wall_s` and `updates` are empty
where it was not evaluated.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError, nearest
from k24_rllib.comparison.methods import Comparison
from k24_rllib.comparison.parameters import ParameterCount
from k24_rllib.comparison.runs import Environment, Point, Reading, Run
from k24_rllib.comparison.table import Table

REQUIRED = ("method", "seed", "env_steps", "greedy_return", "wall_s")
SIZES = tuple(field.name for field in fields(ParameterCount))
OPTIONAL = ("updates", "environment", "env_config", *SIZES)


def check_metric_names(metrics: Sequence[str]) -> None:
    """Checks that each of `metrics` can be a column of its own beside `REQUIRED` and `OPTIONAL`."""
    for metric in metrics:
        if metric in (*REQUIRED, *OPTIONAL):
            raise ConfigError(f"--metric {metric}: is no metric of the learner, expected one that docs/metrics.md has")


def write_points(
    path: Path, comparisons: Sequence[Comparison], tables: Sequence[Table], metrics: Sequence[str] = ()
) -> None:
    """Writes one row per evaluation, and per iteration with a value of `metrics`; numbers keep all their digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*REQUIRED, *OPTIONAL, *metrics], lineterminator="\n")
        writer.writeheader()
        for comparison, table in zip(comparisons, tables, strict=True):
            sizes = {row.method: asdict(row.parameters) for row in table.rows if row.parameters is not None}
            environment = {"environment": comparison.environment.name, "env_config": comparison.environment.options}
            for method in comparison.methods:
                for run in method.runs:
                    same = {"method": method.name, "seed": run.seed, **environment, **sizes.get(method.name, {})}
                    writer.writerows({**same, **row} for row in _rows(run, metrics))


def _rows(run: Run, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a run's evaluations with the metrics of the same steps, and the other steps that have a metric."""
    rows = {point.env_steps: asdict(point) for point in run.points}
    for metric in metrics:
        for steps, value in run.readings(metric):
            rows.setdefault(steps, {"env_steps": steps})[metric] = value
    return [rows[steps] for steps in sorted(rows)]


def read_points(path: Path, label: str | None = None, metrics: Sequence[str] = ()) -> list[Run]:
    """Reads the runs of a CSV file with the columns `REQUIRED`, any of `OPTIONAL` and those of `metrics`.

    Args:
        path: The file.
        label: What to call the method, for a file that holds a single one; None takes the names in the file.
        metrics: Columns to read beside these; what else the file has is not looked at.

    Raises:
        ConfigError: naming a missing column, or the line and the value that can't be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel marks UTF-8 with a byte order mark
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or (), metrics)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read as CSV ({error})") from None
    if not rows:
        raise ConfigError(f"{path}: has no row, expected one per evaluation")
    runs: dict[tuple[Environment, str, int], list[_Cells]] = {}  # by environment, method and seed
    for number, row in rows:
        cells = _Cells(f"{path}: line {number}", row)
        key = (cells.environment(), cells.text("method"), cells.whole("seed", low=None))
        runs.setdefault(key, []).append(cells)
    if label is not None and len({method for _, method, _ in runs}) > 1:
        raise ConfigError(f"{label}={path}: holds several methods, expected a name for a file of one")
    for (_, method, seed), its in runs.items():
        _put_in_order(path, method, seed, its)
    return [
        Run(
            label=label or method,
            environment=environment,
            seed=seed,
            points=tuple(point for row in its if (point := row.point()) is not None),
            source=str(path),
            parameters=its[0].sizes(),
            metrics={metric: _readings(its, metric) for metric in metrics},
        )
        for (environment, method, seed), its in runs.items()
    ]


def _check_columns(path: Path, columns: Sequence[str], metrics: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        hint = nearest(missing[0], [column for column in columns if column not in REQUIRED]) if columns else ""
        raise ConfigError(f"{path}: column {missing[0]!r} is missing{hint}; expected the columns {', '.join(REQUIRED)}")
    for metric in metrics:
        if metric not in columns:
            others = [column for column in columns if column not in (*REQUIRED, *OPTIONAL)]
            raise ConfigError(
                f"{path}: has no column {metric!r}, expected one for --metric {metric}, as --csv writes it together "
                f"with --metric{nearest(metric, others)}"
            )


def _put_in_order(path: Path, method: str, seed: int, rows: list[_Cells]) -> None:
    """Sorts a run's rows by their steps, of which none may be there twice."""
    rows.sort(key=lambda row: row.env_steps)
    for earlier, later in pairwise(rows):
        if earlier.env_steps == later.env_steps:
            raise ConfigError(f"{path}: {method} seed {seed} has two rows at {later.env_steps} steps")


def _readings(rows: Sequence[_Cells], metric: str) -> tuple[Reading, ...]:
    """Returns a metric's values, of the rows that have one."""
    return tuple(Reading(row.env_steps, row.number(metric)) for row in rows if row.has(metric))


class _Cells:
    """One row, whose values are checked as they are read."""

    def __init__(self, where: str, row: dict[str, str | None]) -> None:
        self._where = where
        self._row = row
        self.env_steps = self.whole("env_steps")

    def has(self, column: str) -> bool:
        return bool((self._row.get(column) or "").strip())

    def text(self, column: str) -> str:
        value = (self._row.get(column) or "").strip()
        if not value:
            raise ConfigError(f"{self._where}: {column} is empty")
        return value

    def whole(self, column: str, low: int | None = 0) -> int:
        try:
            value = int(self.text(column))
        except ValueError:
            value = None
        if value is None or (low is not None and value < low):
            least = "" if low is None else f" of at least {low}"
            raise ConfigError(f"{self._where}: {column}: got {self._row[column]!r}, expected a whole number{least}")
        return value

    def number(self, column: str) -> float:
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(f"{self._where}: {column}: got {self._row[column]!r}, expected a number")
        return value

    def point(self) -> Point | None:
        """Returns the row's evaluation, or None if it has none."""
        if not self.has("greedy_return"):
            return None
        updates = self.whole("updates") if self.has("updates") else None
        return Point(self.env_steps, self.number("greedy_return"), self.number("wall_s"), updates)

    def environment(self) -> Environment:
        given = self._row.get("env_config") or "{}"
        try:
            options = json.loads(given)
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise ConfigError(f"{self._where}: env_config: got {given!r}, expected a JSON object")
        return Environment(self._row.get("environment") or "", json.dumps(options, sort_keys=True))

    def sizes(self) -> ParameterCount | None:
        if not all(self._row.get(column) for column in SIZES):
            return None
        return ParameterCount(**{column: self.whole(column) for column in SIZES})
