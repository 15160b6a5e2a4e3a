"""What a search ranks its trials by: a short name or a result key, read from every result that has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from k24_rllib.checks import ConfigError, check_choice, nearest
from k24_rllib.experiments.evaluate import score, score_reference
from k24_rllib.experiments.stopping import ENV_STEPS, GREEDY_RETURN, STOP_KEYS, TRAINING_RETURN, result_value

OBJECTIVE = "search_metric"
"""Result key under which every result of a search has the metric as it was last measured."""
OBJECTIVE_STEPS = "search_metric_steps"
"""Result key of the environment steps at which that was."""

SCORE = "score"
_LEARNER = "info/learner/default_policy/"
_SHORT = {"greedy_return": GREEDY_RETURN, "training_return": TRAINING_RETURN, SCORE: SCORE}
_LEARNER_METRICS = (
    *("loss", "loss_td", "td_error_abs", "q_taken_mean", "target_mean", "grad_norm", "reward_mean", "reward_std"),
    *("div_loss", "overall_sparsity", "pattern_entropy", "pattern_mean_similarity", "pattern_max_similarity"),
    *("pattern_min_similarity", "mask_flip_rate", "sample_argmax_agreement", "kl_div", "mask_difference"),
    *("dead_weights", "resets_total", "revived_total"),
)
"""The learner's metrics that can rank trials; docs/metrics.md explains them."""


def check_metric(metric: object, run: str, config: Mapping[str, Any]) -> str:
    """Returns the result key that `metric` means, or `score`.

    Raises:
        ConfigError: for one that no run of this file reports.
    """
    from k24_rllib import ALGORITHMS

    known = {**STOP_KEYS, **_SHORT}
    for name in _LEARNER_METRICS:
        known[name] = known[_LEARNER + name] = _LEARNER + name
    key = known.get(metric) if isinstance(metric, str) else None
    own = not ALGORITHMS.settings_class(run).__module__.startswith("k24_rllib.")
    if key is None and isinstance(metric, str) and (own and metric.startswith((_LEARNER, "custom_metrics/"))):
        key = metric  # an algorithm of the user's own reports what it likes
    if key is None:
        some = "greedy_return, score, training_return, or a metric of docs/metrics.md"
        raise ConfigError(
            f"metric: got {metric!r}, which no run reports{nearest(metric, known) or f', expected {some}'}"
        )
    if (key == SCORE or key.startswith("evaluation/")) and not config.get("evaluation_interval"):
        raise ConfigError(f"metric: got {metric!r}, expected evaluation_interval in config: without it nothing has it")
    return key


@dataclass
class Objective:
    """Reads the metric from results.

    Attributes:
        name: As the user called it.
        key: Its result key, or `score`.
        mode: `max` or `min`.
    """

    name: str
    key: str
    mode: str = "max"
    _references: dict[str, tuple[float, float] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("max", "min"))

    def read(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> float | None:
        """Returns the metric of one result, flat or nested; None where it wasn't measured."""
        key = GREEDY_RETURN if self.key == SCORE else self.key
        value = result[key] if key in result else result_value(result, key)
        if value is None or not math.isfinite(value):
            return None
        if self.key != SCORE:
            return float(value)
        reference = self._reference(config)
        return None if reference is None else score(float(value), reference)

    def last(self, result: Mapping[str, Any] | None) -> tuple[float, float]:
        """Returns the metric that a trial's last result carries, and the steps it was measured at; NaN if never."""
        result = result or {}
        return float(result.get(OBJECTIVE, math.nan)), float(result.get(OBJECTIVE_STEPS, math.nan))

    def note(self, config: Mapping[str, Any], result: dict[str, Any], before: Mapping[str, Any] | None) -> None:
        """Puts the metric into a result, in place; where it wasn't measured, as it was `before`."""
        value, steps = self.read(config, result), result_value(result, ENV_STEPS)
        if value is None:
            value, steps = self.last(before)
        result[OBJECTIVE], result[OBJECTIVE_STEPS] = value, steps

    def better(self, value: float) -> float:
        """Returns a sort key that puts the best first, and what was never measured last."""
        if math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value

    def _reference(self, config: Mapping[str, Any]) -> tuple[float, float] | None:
        env, options = config["env"], config.get("env_config")
        name = f"{env} {options}"
        if name not in self._references:
            self._references[name] = score_reference(env, options)
        return self._references[name]
