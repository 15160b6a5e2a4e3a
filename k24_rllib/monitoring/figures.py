"""Declaring a live figure: its name, what it tells, where a result holds it and on which panel it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Reading = Literal["value", "complement", "per_second", "score"]
"""How a figure comes from the number under its key: as it is, as one minus it, as its growth for each second of an
iteration, or as the environment's score of it (0 random, 1 scripted)."""


@dataclass(frozen=True)
class Figure:
    """One live figure of an algorithm, in its class's `figures`; everything that shows it is made from this.

    Attributes:
        name: Its name in Ray's metrics; Prometheus has it as `ray_<name>`.
        description: What it tells, for Prometheus and as the panel's help.
        key: Where a result holds it, joined by slashes. A result without it leaves the figure as it was.
        row: The part of the dashboard that its panel stands in.
        panel: The title of its panel; figures with the same are drawn in one.
        reading: How it comes from what is under `key`.
    """

    name: str
    description: str
    key: str
    row: str
    panel: str
    reading: Reading = "value"


def unique(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Returns the figures in their order, of each name the first."""
    by_name: dict[str, Figure] = {}
    for figure in figures:
        by_name.setdefault(figure.name, figure)
    return tuple(by_name.values())


def result_value(result: Mapping[str, Any], key: str) -> float | None:
    """Returns the number that `result` holds under a slash-joined `key`, or None where it holds none."""
    value: Any = result
    for part in key.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return None if isinstance(value, bool) or not hasattr(value, "__float__") else float(value)
