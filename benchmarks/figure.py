"""The scaling study as a figure of small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib import ticker

from benchmarks.results import Section
from benchmarks.scaling import WORKERS, key
from benchmarks.team import Sizes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind readers too (Okabe and Ito)
STYLES = {"K24QMix": "-", "QMix": "--", "floor": ":"}


def draw(section: Section, path: Path) -> None:
    """Writes the figure of a scaling study.

    Rows from top to bottom: the time of an update against the number of agents, a panel for each width; steps a second
    of rollouts against copies, a panel for each width; the ratio of K-2:4 to dense, and what remote workers give.
    """
    hidden = section.settings["hidden"]
    columns = max(len(hidden), 3)
    figure, axes = plt.subplots(3, columns, figsize=(4.0 * columns, 10.0), layout="constrained", squeeze=False)
    for column, width in enumerate(hidden):
        draw_updates(axes[0][column], section, width)
        draw_rollouts(axes[1][column], section, width)
    for row in (0, 1):
        drawn = axes[row][: len(hidden)]
        limits = [axis.get_ylim() for axis in drawn]
        for axis in drawn:
            axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        for axis in axes[row][len(hidden) :]:
            axis.set_visible(False)
    draw_ratios(axes[2][0], section)
    draw_workers(axes[2][1], section)
    draw_speed_up(axes[2][2], section)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_updates(axis: Any, section: Section, width: int) -> None:
    """Draws the time of an update against the number of agents."""
    agents = section.settings["agents"]
    for colour, (name, style) in zip(COLOURS, STYLES.items(), strict=False):
        label = "matrix products alone" if name == "floor" else name
        points = [key("update", name, Sizes(size, width)) for size in agents]
        draw_line(axis, section, agents, points, color=colour, linestyle=style, label=label)
    finish(axis, f"an update, hidden {width}", "agents", "ms", agents, log=True)


def draw_rollouts(axis: Any, section: Section, width: int) -> None:
    """Draws steps a second against copies, a line for each number of agents."""
    copies = section.settings["copies"]
    for colour, size in zip(COLOURS, section.settings["agents"], strict=False):
        for name in ("K24QMix", "QMix"):
            label = f"N = {size}" if name == "K24QMix" else None
            points = [key("rollout", name, Sizes(size, width), f"copies {count}") for count in copies]
            draw_line(axis, section, copies, points, color=colour, linestyle=STYLES[name], label=label)
    finish(axis, f"rollouts, hidden {width} (dashed: QMix)", "copies", "environment steps/s", copies, log=True)


def draw_ratios(axis: Any, section: Section) -> None:
    """Draws the time of a K-2:4 update as a multiple of a dense one's."""
    agents = section.settings["agents"]
    for colour, width in zip(COLOURS, section.settings["hidden"], strict=False):
        pairs = [
            [section.quantities[key("update", n, Sizes(size, width))] for n in ("K24QMix", "QMix")] for size in agents
        ]
        ratios = [mine.over(dense).median for mine, dense in pairs]
        axis.plot(agents, ratios, color=colour, marker="o", markersize=4, label=f"hidden {width}")
    axis.axhline(1.0, color="0.6", linewidth=0.8)
    finish(axis, "an update, K24QMix beside QMix", "agents", "times as long", agents, log=False)


def draw_workers(axis: Any, section: Section) -> None:
    """Draws steps a second of remote workers with the smallest team, beside rollouts in the learner's process."""
    copies, sizes = section.settings["copies"], Sizes(section.settings["agents"][0])
    local = [key("rollout", "K24QMix", sizes, f"copies {count}") for count in copies]
    draw_line(axis, section, copies, local, color="0.4", linestyle=":", label="in the learner's process")
    for colour, workers in zip(COLOURS, WORKERS, strict=False):
        points = [key("workers", "K24QMix", sizes, f"copies {n}", f"workers {workers}") for n in copies]
        label = f"{workers} remote worker" + "s" * (workers > 1)
        draw_line(axis, section, copies, points, color=colour, linestyle="-", label=label)
    finish(axis, f"remote workers, N = {sizes.agents}", "copies of each", "environment steps/s", copies, log=True)


def draw_speed_up(axis: Any, section: Section) -> None:
    """Draws how many times one worker's steps two workers make."""
    copies = section.settings["copies"]
    for colour, size in zip(COLOURS, section.settings["agents"], strict=False):
        gains = []
        for count in copies:
            points = [key("workers", "K24QMix", Sizes(size), f"copies {count}", f"workers {n}") for n in WORKERS]
            one, two = (section.quantities[point] for point in points)
            gains.append(two.over(one).median)
        axis.plot(copies, gains, color=colour, marker="o", markersize=4, label=f"N = {size}")
    axis.axhline(1.0, color="0.6", linewidth=0.8)
    finish(axis, "two remote workers beside one", "copies of each", "times as many steps/s", copies, log=False)


def draw_line(axis: Any, section: Section, xs: Sequence[int], points: Sequence[str], **style: Any) -> None:
    """Draws the medians of `points` with their quartiles behind them."""
    quantities = [section.quantities[point] for point in points]
    axis.plot(xs, [quantity.median for quantity in quantities], marker="o", markersize=4, **style)
    low, high = zip(*(quantity.quartiles for quantity in quantities), strict=True)
    axis.fill_between(xs, low, high, color=style["color"], alpha=0.15, linewidth=0)


def finish(axis: Any, title: str, x: str, y: str, ticks: Sequence[int], *, log: bool) -> None:
    """Names the axes and sets their scales and ticks."""
    axis.set_title(title, fontsize="medium")
    axis.set(xlabel=x, ylabel=y, xscale="log")
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    if log:
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    else:
        axis.set_ylim(bottom=0.0)
    axis.grid(alpha=0.3, which="both", axis="y")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", frameon=False)
