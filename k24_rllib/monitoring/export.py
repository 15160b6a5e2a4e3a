"""Setting a run's figures in Ray's metrics, from where Prometheus scrapes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from k24_rllib.monitoring.figures import Figure, result_value

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

TAGS = ("trial", "algorithm", "experiment")
"""What each figure says of where it comes from."""


class Exporter:
    """Sets the figures of one algorithm's results; it belongs to the process that trains.

    Ray gathers a process's metrics itself and offers those of a node at one address, with a tag for each of `TAGS`.

    Args:
        figures: What to set.
        score_reference: The returns that the environment scores 0 and 1, or None where it knows none: then figures that
            are scores are left out.
    """

    def __init__(self, figures: Sequence[Figure], score_reference: tuple[float, float] | None) -> None:
        self._figures = tuple(figures)
        self._score_reference = score_reference
        self._counts: dict[str, float] = {}

    def export(self, result: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Sets every figure that `result` has.

        Args:
            result: What the algorithm reports of an iteration.
            tags: A value for each of `TAGS`.
        """
        for figure in self._figures:
            value = self.read(figure, result)
            if value is not None and math.isfinite(value):  # a mean over no episode is NaN
                _gauge(figure.name, figure.description).set(value, tags=dict(tags))

    def read(self, figure: Figure, result: Mapping[str, Any]) -> float | None:
        """Returns a figure as `result` has it, or None where it has none; growth is that since the last call."""
        value = result_value(result, figure.key)
        if value is None:
            return None
        if figure.reading == "complement":
            return 1.0 - value
        if figure.reading == "per_second":
            return self._per_second(figure, value, result)
        if figure.reading == "score":
            return self._score(value)
        return value

    def _per_second(self, figure: Figure, count: float, result: Mapping[str, Any]) -> float | None:
        """Returns a counter's growth by the second; none at first, as a restored run's counters begin anywhere."""
        before, self._counts[figure.name] = self._counts.get(figure.name), count
        seconds = result_value(result, "time_this_iter_s")
        return (count - before) / seconds if before is not None and seconds else None

    def _score(self, team_return: float) -> float | None:
        if self._score_reference is None:
            return None
        random, scripted = self._score_reference
        return (team_return - random) / (scripted - random)


@cache
def _gauge(name: str, description: str) -> Gauge:
    """Returns the process's gauge of a name: Ray wants each to be made once, whatever the number of algorithms."""
    from ray.util.metrics import Gauge

    return Gauge(name, description=description, tag_keys=TAGS)
