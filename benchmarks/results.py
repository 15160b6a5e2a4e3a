"""What a benchmark found: figures measured several times, tables of them, and the targets they are held against."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Quantity:
    """One figure, measured several times."""

    unit: str
    samples: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter lies below, and what a quarter lies above."""
        if len(self.samples) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    def over(self, other: Quantity) -> Quantity:
        """Returns the ratio to `other`, turn by turn."""
        return Quantity("x", [mine / its for mine, its in zip(self.samples, other.samples, strict=True)])

    def inverse(self, scale: float, unit: str) -> Quantity:
        """Returns `scale` by this figure: a time as a rate."""
        return Quantity(unit, [scale / sample for sample in self.samples])

    def to_json(self) -> dict[str, Any]:
        """Returns everything, for a file."""
        return {"unit": self.unit, "median": self.median, "quartiles": self.quartiles, "samples": self.samples}


@dataclass(frozen=True)
class Target:
    """A figure that the project set out to reach."""

    what: str
    measured: Quantity
    limit: float
    at_least: bool = True
    """Whether the limit is the least that is wanted, or the most."""

    @property
    def met(self) -> bool:
        """Whether the median reaches it."""
        return self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit

    def wanted(self) -> str:
        """Returns the limit as a reader sees it."""
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)} {self.measured.unit}"

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the samples, for a file."""
        return {
            "what": self.what,
            "measured": self.measured.median,
            "unit": self.measured.unit,
            "limit": self.limit,
            "at_least": self.at_least,
            "met": self.met,
        }


@dataclass
class Section:
    """What one benchmark found."""

    name: str
    title: str
    heading: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quantities: dict[str, Quantity] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns everything, for a file."""
        return {
            "title": self.title,
            "settings": self.settings,
            "notes": self.notes,
            "quantities": {name: quantity.to_json() for name, quantity in self.quantities.items()},
            "targets": [target.to_json() for target in self.targets],
        }


def number(value: float) -> str:
    """Returns `value` with three digits at least and no more than are worth reading."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if float(value).is_integer() else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def cells(quantity: Quantity) -> list[str]:
    """Returns the table cells of a figure: its median, and its quartiles."""
    low, high = quantity.quartiles
    return [number(quantity.median), f"{number(low)} to {number(high)}"]
