"""Every evaluation as a row of a CSV file, from which the tables and the figure can be made again."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path

from k24_rllib.checks import ConfigError, nearest
from k24_rllib.cli.comparison.methods import Comparison
from k24_rllib.cli.comparison.parameters import ParameterCount
from k24_rllib.cli.comparison.runs import Environment, Point, Run
from k24_rllib.cli.comparison.table import Table

REQUIRED = ("method", "seed", "env_steps", "greedy_return", "wall_s")
SIZES = tuple(field.name for field in fields(ParameterCount))
OPTIONAL = ("updates", "environment", "env_config", *SIZES)


def write_points(path: Path, comparisons: Sequence[Comparison], tables: Sequence[Table]) -> None:
    """Writes one row per evaluation; numbers keep all their digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*REQUIRED, *OPTIONAL], lineterminator="\n")
        writer.writeheader()
        for comparison, table in zip(comparisons, tables, strict=True):
            sizes = {row.method: asdict(row.parameters) for row in table.rows if row.parameters is not None}
            environment = {"environment": comparison.environment.name, "env_config": comparison.environment.options}
            for method in comparison.methods:
                for run in method.runs:
                    same = {"method": method.name, "seed": run.seed, **environment, **sizes.get(method.name, {})}
                    writer.writerows({**same, **asdict(point)} for point in run.points)


def read_points(path: Path, label: str | None = None) -> list[Run]:
    """Reads the runs of a CSV file with the columns `REQUIRED` and any of `OPTIONAL`.

    Args:
        path: The file.
        label: What to call the method, for a file that holds a single one; None takes the names in the file.

    Raises:
        ConfigError: naming a missing column, or the line and the value that can't be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read as CSV ({error})") from None
    if not rows:
        raise ConfigError(f"{path}: has no row, expected one per evaluation")
    runs: dict[tuple[Environment, str, int], list[tuple[Point, ParameterCount | None]]] = {}
    for number, row in rows:
        cells = _Cells(f"{path}: line {number}", row)
        run = (cells.environment(), cells.text("method"), cells.whole("seed", low=None))
        runs.setdefault(run, []).append((cells.point(), cells.sizes()))
    if label is not None and len({method for _, method, _ in runs}) > 1:
        raise ConfigError(f"{label}={path}: holds several methods, expected a name for a file of one")
    return [
        Run(
            label=label or method,
            environment=environment,
            seed=seed,
            points=_rising(path, method, seed, [point for point, _ in points]),
            source=str(path),
            parameters=points[0][1],
        )
        for (environment, method, seed), points in runs.items()
    ]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        hint = nearest(missing[0], [column for column in columns if column not in REQUIRED]) if columns else ""
        raise ConfigError(f"{path}: column {missing[0]!r} is missing{hint}; expected the columns {', '.join(REQUIRED)}")


def _rising(path: Path, method: str, seed: int, points: Sequence[Point]) -> tuple[Point, ...]:
    """Returns a run's points in the order of steps, no step twice."""
    ordered = sorted(points, key=lambda point: point.env_steps)
    for earlier, later in pairwise(ordered):
        if earlier.env_steps == later.env_steps:
            raise ConfigError(f"{path}: {method} seed {seed} has two evaluations at {later.env_steps} steps")
    return tuple(ordered)


class _Cells:
    """One row, whose values are checked as they are read."""

    def __init__(self, where: str, row: dict[str, str | None]) -> None:
        self._where = where
        self._row = row

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

    def point(self) -> Point:
        updates = self.whole("updates") if self._row.get("updates") else None
        return Point(self.whole("env_steps"), self.number("greedy_return"), self.number("wall_s"), updates)

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
