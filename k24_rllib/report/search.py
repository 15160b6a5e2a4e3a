"""A search: its trials, the best first, how each went, and what each setting made of the metric."""

from __future__ import annotations

import base64
import csv
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k24_rllib.experiments.describe import as_yaml
from k24_rllib.experiments.objective import OBJECTIVE, OBJECTIVE_STEPS
from k24_rllib.experiments.search import SECTION_FILE
from k24_rllib.experiments.stopping import ENV_STEPS, result_value
from k24_rllib.report.page import Chart, Line, Section, Table
from k24_rllib.report.reading import Trial

MOST_ROWS = 200
MOST_CURVES = 28
"""As many as have a look of their own."""


@dataclass(frozen=True)
class Found:
    """One trial of a search."""

    trial: Trial
    metric: float
    """As it was last measured; NaN if never."""
    measured_at: float
    values: Mapping[str, Any]
    """Of what was searched."""
    why: str
    """Why it stopped, as `search.csv` has it; empty while there is none."""

    @property
    def name(self) -> str:
        """What tells it from other trials."""
        return self.trial.directory.name


def is_search(directory: Path) -> bool:
    """Returns whether a directory is a search's."""
    return (directory / SECTION_FILE).is_file()


def search_sections(directory: Path, trials: Sequence[Trial]) -> list[Section]:
    """Returns the sections of a search, from its trials as they stand and from what it wrote at its end."""
    section, notes = _given(directory)
    name, best_is = str(section.get("metric", OBJECTIVE)), str(section.get("mode", "max"))
    ends = _ends(directory)
    if not ends:
        notes.append("has not ended: this is what its trials have reported so far")
    sign = -1.0 if best_is == "max" else 1.0
    axes = _searched(trials)
    found = [_found(trial, axes, ends) for trial in trials]
    found.sort(key=lambda each: math.inf if math.isnan(each.metric) else sign * each.metric)
    notes += [f"{each.name}: {note}" for each in found for note in each.trial.notes][:MOST_ROWS]
    how = [["what", "value"], *([key, as_yaml(value)] for key, value in section.items())]
    best = f"rllib report {shlex.quote(str(found[0].trial.directory))}  # the best one's own page" if found else ""
    tables = [Table(how, "The search, as the file has it"), _table(found, axes, name)]
    return [
        Section(f"Search: {len(found)} trials, the best first", notes, tables, text=best, image=_picture(directory)),
        Section("What each setting made of it", charts=_axis_charts(found, axes, name)),
        Section("The trials over training", charts=_curves(found, name)),
    ]


def _given(directory: Path) -> tuple[Mapping[str, Any], list[str]]:
    try:
        section = json.loads((directory / SECTION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"{SECTION_FILE}: can't be read ({error})"]
    return (section, []) if isinstance(section, dict) else ({}, [f"{SECTION_FILE}: expected keys and values"])


def _ends(directory: Path) -> dict[str, str]:
    """Returns why each trial stopped, by its directory's name; nothing before the search's end."""
    try:
        with (directory / "search.csv").open(newline="", encoding="utf-8") as file:
            return {Path(row.get("path") or "").name: row.get("stopped_by") or "" for row in csv.DictReader(file)}
    except (OSError, ValueError, csv.Error):
        return {}


def _searched(trials: Sequence[Trial]) -> list[str]:
    """Returns the settings in which trials differ, nested ones joined by dots."""
    seen: dict[str, set[str]] = {}
    flat = [_flat(trial.given) for trial in trials]
    for settings in flat:
        for key, value in settings.items():
            seen.setdefault(key, set()).add(as_yaml(value))
    return [key for key, values in seen.items() if len(values) > 1 or any(key not in its for its in flat)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _found(trial: Trial, axes: Sequence[str], ends: Mapping[str, str]) -> Found:
    settings = _flat(trial.given)
    metric, at = (_number(trial.last.get(key)) for key in (OBJECTIVE, OBJECTIVE_STEPS))
    values = {axis: settings.get(axis) for axis in axes}
    return Found(trial, metric, at, values, ends.get(trial.directory.name, ""))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _table(found: Sequence[Found], axes: Sequence[str], name: str) -> Table:
    rows = [["trial", name, "at step", "steps", "stopped by", *axes]]
    for each in found[:MOST_ROWS]:
        measured = "-" if math.isnan(each.metric) else f"{each.metric:.4g}"
        at = "-" if math.isnan(each.measured_at) else f"{each.measured_at:,.0f}"
        why = each.why or each.trial.status
        rows.append([each.name, measured, at, f"{each.trial.steps:,}", why, *(_cell(each.values[key]) for key in axes)])
    more = f"; {len(found) - MOST_ROWS} more are in search.csv" if len(found) > MOST_ROWS else ""
    return Table(rows, f"Trials{more}")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else as_yaml(value)


def _axis_charts(found: Sequence[Found], axes: Sequence[str], name: str) -> list[Chart]:
    """Returns a chart for each setting that was searched: a point for each trial."""
    measured = [each for each in found if not math.isnan(each.metric)]
    charts = []
    for axis in axes:
        pairs = [(each.values[axis], each.metric) for each in measured]
        numbers = [value for value, _ in pairs if isinstance(value, int | float) and not isinstance(value, bool)]
        ticks: list[str] = []
        if len(numbers) < len(pairs):
            ticks = list(dict.fromkeys(as_yaml(value) for value, _ in pairs))
            x: list[float] = [float(ticks.index(as_yaml(value))) for value, _ in pairs]
        else:
            x = [float(value) for value in numbers]
        if x:
            points = Line("trials", x, [metric for _, metric in pairs], points=True)
            log = not ticks and min(x) > 0 and max(x) / min(x) > 30
            charts.append(Chart(axis, [points], x_label=axis, y_label=name, ticks=ticks, log_x=log))
    return charts


def _curves(found: Sequence[Found], name: str) -> list[Chart]:
    """Returns the metric of the best trials over training."""
    lines = []
    for style, each in enumerate(found[:MOST_CURVES]):
        points = [
            (result_value(result, ENV_STEPS), _number(result.get(OBJECTIVE)))
            for result in each.trial.results
            if result.get(OBJECTIVE_STEPS) == result_value(result, ENV_STEPS)
        ]
        known = [(steps, value) for steps, value in points if steps is not None and math.isfinite(value)]
        if known:
            x, y = zip(*known, strict=True)
            lines.append(Line(each.name, x, y, style=style))
    about = f"The best {MOST_CURVES} of {len(found)}." if len(found) > MOST_CURVES else ""
    return [Chart(name, lines, y_label=name, about=about)] if lines else []


def _picture(directory: Path) -> str:
    """Returns the picture that the search wrote at its end, as a data URI, or nothing."""
    try:
        return f"data:image/png;base64,{base64.b64encode((directory / 'search.png').read_bytes()).decode()}"
    except OSError:
        return ""
