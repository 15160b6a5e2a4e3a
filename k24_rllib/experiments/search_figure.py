"""The picture of a search: every trial as a line through its values, and which values mattered."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from k24_rllib.experiments.describe import as_yaml
from k24_rllib.experiments.experiment import Experiment
from k24_rllib.experiments.space import Axis

if TYPE_CHECKING:
    from k24_rllib.experiments.search_report import Row

MIN_TRIALS = 6
"""Below that, importances are noise."""


def importances(axes: Sequence[Axis], rows: Sequence[Row], mode: str) -> tuple[dict[str, float], str]:
    """Returns each axis' share of what decided between good and bad trials, or nothing and why.

    PED-ANOVA (arXiv 2304.10255) over a study rebuilt from the trials, whatever searched them; Optuna's default,
    fANOVA, needs scikit-learn.
    """
    if find_spec("optuna") is None:
        return {}, "Optuna isn't installed: pip install optuna"
    searched = [axis for axis in axes if len({as_yaml(row.values[axis.name]) for row in rows}) > 1]
    if len(rows) < MIN_TRIALS or len(searched) < 2:
        return {}, f"they need {MIN_TRIALS} trials and two axes, here are {len(rows)} and {len(searched)}"
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        spread = {axis.name: _distribution(axis, rows) for axis in searched}
        for row in rows:
            parameters = {axis.name: _parameter(axis, row.values[axis.name]) for axis in searched}
            study.add_trial(optuna.trial.create_trial(params=parameters, distributions=spread, value=row.metric))
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError) as error:
            return {}, " ".join(str(error).split())
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}, ""


def _parameter(axis: Axis, value: Any) -> Any:
    return as_yaml(value) if axis.categorical else value


def _distribution(axis: Axis, rows: Sequence[Row]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.categorical:
        return CategoricalDistribution(sorted({as_yaml(value) for value in axis.values}))
    values = [row.values[axis.name] for row in rows]
    low, high = min(values), max(values)
    whole = axis.distribution is not None and axis.distribution.integer
    return (IntDistribution if whole else FloatDistribution)(low, high, log=axis.log)


def draw_search(
    path: Path, experiment: Experiment, axes: Sequence[Axis], rows: Sequence[Row], shares: dict[str, float]
) -> None:
    """Writes parallel coordinates of all trials, the best on top and dark, and importances beside them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    assert experiment.tune is not None
    width = 2.0 * (len(axes) + 1) + (4.0 if shares else 0.0)
    figure, panels = plt.subplots(
        1, 2 if shares else 1, figsize=(max(width, 6.0), 4.8), squeeze=False, layout="constrained",
        width_ratios=[2.0 * (len(axes) + 1), 4.0] if shares else None,
    )  # fmt: skip
    _draw_lines(panels[0][0], axes, rows, experiment.tune.metric, experiment.tune.mode)
    panels[0][0].set_title(f"{experiment.name}: {len(rows)} trials")
    if shares:
        _draw_shares(panels[0][1], shares)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_lines(panel: Any, axes: Sequence[Axis], rows: Sequence[Row], metric: str, mode: str) -> None:
    """Draws one line for each trial over all axes and the metric; each axis has a scale of its own."""
    columns = [_scaled(axis, rows) for axis in axes]
    results = np.array([row.metric for row in rows])
    spread = np.ptp(results) or 1.0
    columns.append(((results - results.min()) / spread, [(0.0, f"{results.min():.3g}"), (1.0, f"{results.max():.3g}")]))
    heights = np.stack([column for column, _ in columns], axis=1)  # [trials, axes + 1]
    from matplotlib import colormaps

    goodness = heights[:, -1] if mode == "max" else 1.0 - heights[:, -1]
    for index in np.argsort(goodness):
        best = index == np.argmax(goodness)
        panel.plot(
            heights[index], color=colormaps["viridis_r"](goodness[index]), linewidth=3.0 if best else 1.2,
            alpha=1.0 if best else 0.7,
        )  # fmt: skip
    for position, (_, ticks) in enumerate(columns):
        panel.axvline(position, color="0.6", linewidth=0.8)
        for height, text in ticks:
            panel.annotate(text, (position, height), xytext=(4, 0), textcoords="offset points", fontsize=8)
    panel.set_xticks(range(len(columns)), [*(axis.name for axis in axes), metric], rotation=20, ha="right")
    panel.set_yticks([])
    panel.set_xlim(-0.2, len(columns) - 0.4)


def _scaled(axis: Axis, rows: Sequence[Row]) -> tuple[Any, list[tuple[float, str]]]:
    """Returns an axis' values between 0 and 1, and its labels with their heights."""
    values = [row.values[axis.name] for row in rows]
    if axis.categorical:
        names = list(dict.fromkeys(as_yaml(value) for value in axis.values))
        heights = {name: index / max(len(names) - 1, 1) for index, name in enumerate(names)}
        return np.array([heights.get(as_yaml(value), 0.5) for value in values]), [(h, n) for n, h in heights.items()]
    numbers = np.log(np.array(values, float)) if axis.log else np.array(values, float)
    low, high = float(numbers.min()), float(numbers.max())
    ticks = [(height, f"{value:.3g}") for height, value in ((0.0, min(values)), (1.0, max(values)))]
    return (numbers - low) / ((high - low) or 1.0), ticks


def _draw_shares(panel: Any, shares: dict[str, float]) -> None:
    names = sorted(shares, key=lambda name: shares[name])
    panel.barh(names, [shares[name] for name in names], color="tab:blue")
    panel.set_title("importance (PED-ANOVA)")
    panel.set_xlim(0.0, 1.0)
