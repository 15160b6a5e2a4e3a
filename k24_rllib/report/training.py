"""A run over training: greedy return and score, losses, what happened to the masks, and when it was reset or frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k24_rllib.comparison.runs import Reading
from k24_rllib.experiments.evaluate import Evaluation
from k24_rllib.experiments.stopping import ENV_STEPS, TRAINING_RETURN, result_value
from k24_rllib.report.page import Chart, Line, Mark, Section
from k24_rllib.report.reading import Trial

EPISODES = ("evaluation", "env_runners", "hist_stats", "episode_reward")
"""Where RLlib keeps the return of each of an evaluation's episodes."""
MOST_MARKS = 60
"""More would cover the lines; a note says that there were others."""
MOST_NAMED = 12
"""In words; all can be read by pointing at them."""

PANELS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Loss", ("loss", "loss_td"), "Falls, then hovers; a rise without end is divergence."),
    (
        "Diversity loss",
        ("div_loss",),
        "How alike owners' masks are; weighted to stay at div_coef of the TD loss.",
    ),
    ("Temperature", ("temperature",), "Of the distributions that masks are drawn from."),
    ("Pattern entropy", ("pattern_entropy",), "In bits, 2.585 at most for 2:4; falls with the temperature."),
    (
        "Agreement of draws with the most likely pattern",
        ("sample_argmax_agreement",),
        "Low at the end: training and evaluation see different networks.",
    ),
    ("Mask flips", ("mask_flip_rate",), "Share of groups whose most likely pattern changed since the last iteration."),
    (
        "Similarity of owners",
        ("pattern_mean_similarity", "pattern_max_similarity", "pattern_min_similarity", "similarity_floor"),
        "Towards 1: owners share their masks. The floor is the least that so many owners can have.",
    ),
    ("Sparsity", ("overall_sparsity", "mask_difference", "dead_weights"), "Shares of all masked weights."),
    ("Values", ("q_taken_mean", "target_mean"), "They follow each other; growth without end is overestimation."),
    ("Absolute TD error", ("td_error_abs",), "In the scale of standardised rewards."),
    ("Gradient norm", ("grad_norm",), "Before clipping."),
    ("Exploration", ("epsilon",), "Share of random actions in training."),
    ("Learning rate", ("lr",), ""),
)
"""Title, the learner's metrics, and what to see in them; docs/metrics.md explains each."""
NO_PANEL = ("progress", "finetune_mode", "buffer_fill", "reward_mean", "reward_std")
COUNTERS = {"resets_total": "reset", "revived_total": "connections revived"}
"""Counts whose growth is an event."""


def training_section(trial: Trial, reference: tuple[float, float] | None) -> Section:
    """Returns the charts of one run; events stand in each of them.

    Args:
        trial: The run.
        reference: Returns of a random and of a scripted policy, where they are known.
    """
    found, metrics = marks(trial.run.metrics), trial.run.metrics
    shown, notes = found[:MOST_MARKS], []
    if len(found) > MOST_MARKS:
        notes.append(f"the first {MOST_MARKS} of {len(found)} events are marked")
    charts = [chart for chart in (_return_chart(trial, reference, shown),) if chart.lines]
    for title, names, about in PANELS:
        lines = list(_lines(metrics, names))
        if lines:
            charts.append(Chart(title, lines, about=about, marks=shown))
    named = {name for _, names, _ in PANELS for name in names} | {*NO_PANEL, *COUNTERS}
    for name in metrics:
        if name not in named and not name.startswith(("pattern_", "sparsity_layer_")):
            charts += [Chart(name, [line], marks=shown) for line in _lines(metrics, (name,))]
    return Section("Training", charts=charts, notes=notes)


def _lines(metrics: Mapping[str, Sequence[Reading]], names: Sequence[str]) -> Iterator[Line]:
    present = [name for name in names if metrics.get(name)]
    for style, name in enumerate(present):
        steps, values = zip(*metrics[name], strict=True)
        yield Line(name, steps, values, style=style)


def _return_chart(trial: Trial, reference: tuple[float, float] | None, shown: Sequence[Mark]) -> Chart:
    """Returns the greedy return with the interval of each evaluation's episodes, and that of training beside it."""
    lines = []
    greedy = trial.run.readings(None)
    if greedy:
        steps, values = zip(*greedy, strict=True)
        margins = _margins(trial.results)
        low, high = ([value + sign * margins.get(step, 0.0) for step, value in greedy] for sign in (-1, 1))
        bands: dict[str, Any] = {"low": low, "high": high} if margins else {}
        lines.append(Line("greedy, most likely masks", steps, values, **bands))
    training = [(step, value) for step, value in _read(trial.results, TRAINING_RETURN) if math.isfinite(value)]
    if training:
        steps, values = zip(*training, strict=True)
        lines.append(Line("in training, with exploration", steps, values, style=1))
    second = None
    if reference is not None:
        random, scripted = reference
        second = ("score (0 = random policy, 1 = scripted)", 1 / (scripted - random), -random)
    about = "Raw team return of an episode. Bands are 95% intervals over the episodes of one evaluation."
    if shown:
        names = ", ".join(f"{mark.name} at {mark.x:,.0f}" for mark in shown[:MOST_NAMED])
        about = f"{about} Dotted lines, here and below: {names}{', ...' if len(shown) > MOST_NAMED else ''}."
    return Chart("Return", lines, y_label="team return", about=about, marks=shown, second=second)


def _read(results: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[int, float]]:
    for result in results:
        value, steps = result_value(result, key), result_value(result, ENV_STEPS)
        if value is not None and steps is not None:
            yield int(steps), value


def _margins(results: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Returns half the width of each evaluation's 95% interval, by environment steps."""
    found = {}
    for result in results:
        inside: Any = result
        for part in EPISODES:
            inside = inside.get(part) if isinstance(inside, Mapping) else None
        steps = result_value(result, ENV_STEPS)
        if isinstance(inside, list) and len(inside) > 1 and steps is not None:
            returns = [float(value) for value in inside if isinstance(value, int | float)]
            margin = Evaluation.of(returns, None).margin if returns else math.nan
            if math.isfinite(margin):
                found[int(steps)] = margin
    return found


def marks(metrics: Mapping[str, Sequence[Reading]]) -> list[Mark]:
    """Returns what happened to the masks: resets, and when they were frozen for finetuning."""
    found = []
    for name, word in COUNTERS.items():
        before = 0.0
        for steps, count in metrics.get(name, ()):
            if count > before:
                more = count - before
                found.append(Mark(steps, f"{word} ({more:g})" if more > 1 else word))
            before = count
    was = 0.0
    for steps, frozen in metrics.get("finetune_mode", ()):
        if frozen != was:
            found.append(Mark(steps, "masks frozen" if frozen else "masks learned again"))
        was = frozen
    return sorted(found, key=lambda mark: mark.x)
