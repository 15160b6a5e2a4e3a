"""A method's learning curve: interquartile mean and interval on a grid of steps that all runs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from k24_rllib.cli.comparison.methods import Method
from k24_rllib.cli.comparison.statistics import Array, estimate_curve

MOST_GRID_STEPS = 200


@dataclass(frozen=True)
class Curve:
    """The greedy return of a method against environment steps, `[G]` each."""

    method: Method
    env_steps: Array
    value: Array
    low: Array | None
    high: Array | None


def learning_curves(methods: Sequence[Method]) -> list[Curve]:
    """Returns the methods' curves on one grid: the steps at which any run was evaluated, or 200 if those are more.

    Between evaluations returns are interpolated. A curve begins where its last run has begun and ends where its first
    run ends: nothing is extrapolated. A method whose runs have no step in common has no curve.
    """
    steps = np.unique([float(point.env_steps) for method in methods for run in method.runs for point in run.points])
    if len(steps) > MOST_GRID_STEPS:
        steps = np.linspace(steps[0], steps[-1], MOST_GRID_STEPS)
    curves = []
    for method in methods:
        first = max(run.points[0].env_steps for run in method.runs)
        last = min(run.last_step for run in method.runs)
        if first > last:
            continue
        grid = np.unique(np.concatenate(([first, last], steps[(steps >= first) & (steps <= last)])))
        curves.append(Curve(method, grid, *estimate_curve(_returns(method, grid))))
    return curves


def _returns(method: Method, grid: Array) -> Array:
    """Returns the runs' greedy returns at the steps of `grid`, `[R, G]`."""
    rows = []
    for run in method.runs:
        steps, returns = zip(*((point.env_steps, point.greedy_return) for point in run.points), strict=True)
        rows.append(np.interp(grid, steps, returns))
    return np.stack(rows)
