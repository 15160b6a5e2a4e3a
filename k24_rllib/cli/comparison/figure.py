"""The learning curves of all methods as a figure, a panel for each environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib import ticker

from k24_rllib.cli.comparison.curves import Curve, learning_curves
from k24_rllib.cli.comparison.methods import Comparison

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers too (Okabe and Ito, without their yellow, which is too light for a line)."""
STYLES = ("-", "--", "-.", ":")


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Writes a PNG: interquartile mean of the greedy return with its 95% interval against environment steps.

    A method keeps its colour and line style in all panels. Where the score's scale is known, it is on the right.
    """
    names = list(dict.fromkeys(method.name for comparison in comparisons for method in comparison.methods))
    size = (7.0 * len(comparisons), 4.8)
    figure, axes = plt.subplots(1, len(comparisons), figsize=size, layout="constrained", squeeze=False)
    for axis, comparison in zip(axes[0], comparisons, strict=True):
        for curve in learning_curves(comparison.methods):
            index = names.index(curve.method.name)
            style = STYLES[(index + index // len(COLOURS)) % len(STYLES)]
            _draw_curve(axis, curve, COLOURS[index % len(COLOURS)], style)
        _finish(axis, comparison)
    figure.savefig(path, dpi=130, format="png")
    plt.close(figure)


def _draw_curve(axis: Any, curve: Curve, colour: str, style: str) -> None:
    seeds = len(curve.method.runs)
    label = f"{curve.method.name} ({seeds} seed{'s' * (seeds > 1)})"
    marker = {"marker": "o", "markersize": 3.0} if len(curve.env_steps) < 40 else {}
    axis.plot(curve.env_steps, curve.value, color=colour, linestyle=style, linewidth=1.8, label=label, **marker)
    if curve.low is not None and curve.high is not None:
        axis.fill_between(curve.env_steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def _finish(axis: Any, comparison: Comparison) -> None:
    """Names the axes, and adds the score's where its scale is known."""
    axis.set_title(str(comparison.environment), fontsize="medium")
    axis.set_xlabel("environment steps")
    axis.set_ylabel("greedy team return of an episode (IQM, 95% interval)")
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", frameon=False, loc="best")
    if comparison.reference is not None:
        random, scripted = comparison.reference
        gap = scripted - random
        scores = axis.secondary_yaxis(
            "right", functions=(lambda value: (value - random) / gap, lambda value: value * gap + random)
        )
        scores.set_ylabel("score (0 = random policy, 1 = scripted)")
