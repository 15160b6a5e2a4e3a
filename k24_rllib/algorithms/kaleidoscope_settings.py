"""Kaleidoscope's settings, declared without RLlib."""

from __future__ import annotations

from typing import Any

from k24_rllib.algorithms.masked_settings import MaskedSettings
from k24_rllib.checks import ConfigError, check_number
from k24_rllib.settings import checked, number


def _check_layer_weights(key: str, given: Any) -> None:
    """Checks a weight for each masked layer; how many there are, the agent's architecture says."""
    if not isinstance(given, list | tuple) or not given:
        raise ConfigError(f"{key}: got {given!r}, expected a number for each masked layer")
    for weight in given:
        check_number(key, weight, low=0.0)


class KaleidoscopeSettings(MaskedSettings):
    """What `KaleidoscopeQMixConfig` adds to the settings of learned masks."""

    threshold_scale: float = number(
        5.0,
        "Thresholds start at -(scale * u + bias), u uniform in [0, 1), before a sigmoid. More makes agents differ more "
        "from the start.",
        low=0.0,
        offers={"layer": "threshold_scale"},
    )
    threshold_bias: float = number(
        5.0, "Less prunes more from the start (5: weights below 0.007).", offers={"layer": "threshold_bias"}
    )
    div_coef: float = MaskedSettings.declared("div_coef", 0.5)
    div_layer_weights: Any = checked(
        None,
        "Weight of each masked layer in the diversity loss, from input to output; null means 1, 2, 4, 8, ...: layers "
        "near the output count more.",
        _check_layer_weights,
        "a number of at least 0 for each masked layer",
        optional=True,
    )
    reset_interval: int | None = MaskedSettings.declared("reset_interval", 200_000)
