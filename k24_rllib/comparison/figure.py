"""The learning curves of all methods as a figure: a column for each environment, a panel for each quantity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k24_rllib.comparison.curves import Curve, learning_curves
from k24_rllib.comparison.methods import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers too (Okabe and Ito, without their yellow, which is too light for a line)."""
STYLES = ("-", "--", "-.", ":")
WIDTH, RETURN_HEIGHT, METRIC_HEIGHT = 7.0, 4.8, 3.2
"""Of panels, in inches."""


def draw(
    comparisons: Sequence[Comparison], path: Path | str, metrics: Sequence[str] = (), *, with_return: bool = True
) -> None:
    """Writes the figure of `make_figure` as a PNG."""
    make_figure(comparisons, metrics, with_return=with_return).savefig(path, dpi=130, format="png")


def make_figure(comparisons: Sequence[Comparison], metrics: Sequence[str] = (), *, with_return: bool = True) -> Figure:
    """Returns a figure: interquartile means with their 95% intervals against environment steps.

    A column is an environment. Its panels are of the greedy return, if `with_return`, and of each of `metrics`, where
    methods that don't report it are missing. A method keeps its colour and line style in all panels. Where the score's
    scale is known, it is on the right of the return's.
    """
    from matplotlib.figure import Figure  # not pyplot, which would take over a notebook's figures

    names = list(dict.fromkeys(method.name for comparison in comparisons for method in comparison.methods))
    quantities = [*([None] if with_return else []), *metrics]
    heights = [RETURN_HEIGHT if quantity is None else METRIC_HEIGHT for quantity in quantities]
    figure = Figure(figsize=(WIDTH * len(comparisons), sum(heights)), layout="constrained")
    axes = figure.subplots(len(quantities), len(comparisons), height_ratios=heights, sharex="col", squeeze=False)
    for column, comparison in zip(axes.T, comparisons, strict=True):
        for axis, quantity in zip(column, quantities, strict=True):
            for curve in learning_curves(comparison.methods, quantity):
                index = names.index(curve.method.name)
                _draw_curve(axis, curve, *look(index))
            _finish(axis, quantity)
        if with_return:
            _add_score(column[0], comparison)
        column[0].set_title(str(comparison.environment), fontsize="medium")
        column[-1].set_xlabel("environment steps")
        _add_legend(column)
    return figure


def look(index: int) -> tuple[str, str]:
    """Returns the colour and the line style of a figure's `index`-th method, which no other has."""
    return COLOURS[index % len(COLOURS)], STYLES[(index + index // len(COLOURS)) % len(STYLES)]


def open_frame(axis: Any) -> None:
    """Gives a panel its grid, and a frame on two sides alone."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_curve(axis: Any, curve: Curve, colour: str, style: str) -> None:
    seeds = len(curve.method.runs)
    label = f"{curve.method.name} ({seeds} seed{'s' * (seeds > 1)})"
    marker = {"marker": "o", "markersize": 3.0} if len(curve.env_steps) < 40 else {}
    axis.plot(curve.env_steps, curve.value, color=colour, linestyle=style, linewidth=1.8, label=label, **marker)
    if curve.low is not None and curve.high is not None:
        axis.fill_between(curve.env_steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def _finish(axis: Any, metric: str | None) -> None:
    """Names what a panel shows, and says where there is nothing to show."""
    from matplotlib import ticker

    what = "greedy team return of an episode " if metric is None else f"{metric}\n"
    axis.set_ylabel(f"{what}(IQM, 95% interval)")
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axis.tick_params(labelbottom=True)
    open_frame(axis)
    if not axis.lines:
        axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center", va="center")


def _add_score(axis: Any, comparison: Comparison) -> None:
    """Adds the score's axis to the return's panel, where its scale is known."""
    if comparison.reference is None:
        return
    random, scripted = comparison.reference
    gap = scripted - random
    scores = axis.secondary_yaxis(
        "right", functions=(lambda value: (value - random) / gap, lambda value: value * gap + random)
    )
    scores.set_ylabel("score (0 = random policy, 1 = scripted)")


def _add_legend(column: Sequence[Any]) -> None:
    """Names the methods of all of an environment's panels in the first of them."""
    lines = {line.get_label(): line for axis in column for line in axis.lines}
    column[0].legend(handles=list(lines.values()), fontsize="small", frameon=False, loc="best")
