"""Performance profiles: which share of all runs, over all tasks, reaches each score (Agarwal et al. 2021, section 4.2).

One figure says where a method pays, and how often, which a mean over tasks hides. Scores put a task's random policy at
0 and its script or optimum at 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.figure import look, open_frame
from k24_rllib.comparison.statistics import Array, estimate_mean_curve
from k24_rllib.comparison.table import Table, scores_by_method

POINTS = 101


@dataclass(frozen=True)
class Profile:
    """The profile of one method.

    Attributes:
        method: Its name.
        scores: `[POINTS]`, rising.
        share: Of the runs that reach each of them, `[POINTS]`; every task counts as much.
        low, high: Ends of its pointwise 95% interval, from a bootstrap stratified over tasks; None where a task has a
            single run.
        runs: How many there are in all.
    """

    method: str
    scores: Array
    share: Array
    low: Array | None
    high: Array | None
    runs: int


def profiles(tables: Sequence[Table]) -> list[Profile]:
    """Returns the profile of each method that was run in every one of the tables' tasks.

    Raises:
        ConfigError: naming a task whose scores nobody knows, or if no method was run in all tasks.
    """
    for table in tables:
        if table.reference is None:
            raise ConfigError(
                f"--profile: nobody knows a score of {table.title.partition(':')[0]}, expected tasks that have one"
            )
    scores = [scores_by_method(table) for table in tables]
    shared = [name for name in scores[0] if all(name in other for other in scores)]
    if not shared:
        raise ConfigError("--profile: no method was run in every task, expected at least one")
    return _made({name: [each[name] for each in scores] for name in shared})


def _made(strata: Mapping[str, Sequence[Array]]) -> list[Profile]:
    everything = np.concatenate([task for tasks in strata.values() for task in tasks])
    grid = np.linspace(min(0.0, float(everything.min())), max(1.0, float(everything.max())), POINTS)
    made = []
    for name, tasks in strata.items():
        reached = [(task[:, None] >= grid).astype(float) for task in tasks]  # [R, POINTS] each
        made.append(Profile(name, grid, *estimate_mean_curve(reached), sum(map(len, tasks))))
    return made


def draw_profiles(found: Sequence[Profile], tasks: int, path: Path | str) -> None:
    """Writes the figure as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    axis: Any = figure.subplots()
    for index, profile in enumerate(found):
        colour, style = look(index)
        label = f"{profile.method} ({profile.runs} runs)"
        axis.plot(profile.scores, profile.share, color=colour, linestyle=style, linewidth=1.8, label=label)
        if profile.low is not None and profile.high is not None:
            axis.fill_between(profile.scores, profile.low, profile.high, color=colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("score (0 = random policy, 1 = scripted or best)")
    axis.set_ylabel(f"share of runs with at least this score\n({tasks} task{'s' * (tasks > 1)}, 95% interval)")
    axis.set_ylim(-0.02, 1.02)
    open_frame(axis)
    axis.legend(fontsize="small", frameon=False)
    figure.savefig(path, dpi=130, format="png")
