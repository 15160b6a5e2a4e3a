"""A method's learning curve: interquartile mean and interval on a grid of steps that all runs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from k24_rllib.comparison.methods import Method
from k24_rllib.comparison.runs import Reading
from k24_rllib.comparison.statistics import Array, estimate_curve

MOST_GRID_STEPS = 200


@dataclass(frozen=True)
class Curve:
    """The greedy return, or a metric, of a method against environment steps, `[G]` each."""

    method: Method
    """With the runs that the curve is made of."""
    env_steps: Array
    value: Array
    low: Array | None
    high: Array | None


def learning_curves(methods: Sequence[Method], metric: str | None = None) -> list[Curve]:
    """Returns the methods' curves on one grid: the steps at which any run has a value, or 200 if those are more.

    Between its values a run is interpolated. A curve begins where its last run has begun and ends where its first run
    ends: nothing is extrapolated. A method whose runs have no step in common has no curve, and none whose runs do not
    report the metric.

    Args:
        methods: Those of one environment.
        metric: One of the learner's metrics; None is the greedy return.
    """
    reporting = [method.reporting(metric) for method in methods]
    readings = [[run.readings(metric) for run in method.runs] for method in reporting]
    steps = np.unique([float(reading.env_steps) for runs in readings for run in runs for reading in run])
    if len(steps) > MOST_GRID_STEPS:
        steps = np.linspace(steps[0], steps[-1], MOST_GRID_STEPS)
    curves = []
    for method, runs in zip(reporting, readings, strict=True):
        if not runs:
            continue
        first, last = max(run[0].env_steps for run in runs), min(run[-1].env_steps for run in runs)
        if first > last:
            continue
        grid = np.unique(np.concatenate(([first, last], steps[(steps >= first) & (steps <= last)])))
        curves.append(Curve(method, grid, *estimate_curve(_interpolated(runs, grid))))
    return curves


def _interpolated(runs: Sequence[Sequence[Reading]], grid: Array) -> Array:
    """Returns the runs' values at the steps of `grid`, `[R, G]`."""
    return np.stack([np.interp(grid, *np.array(run).T) for run in runs])
