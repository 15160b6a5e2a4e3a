"""Kaleidoscope QMIX (arXiv 2410.08540): agents share weights, and each prunes what lies below thresholds of its own."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy
from k24_rllib.callbacks import KaleidoscopeResetCallback
from k24_rllib.checks import ConfigError, check_number
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import ALGORITHMS
from k24_rllib.settings import checked, fluent, number
from k24_rllib.sparsity import KaleidoscopeLinear, kaleidoscope_diversity_loss, kaleidoscope_metrics


def _check_layer_weights(key: str, given: Any) -> None:
    """Checks a weight for each masked layer; how many there are, the agent's architecture says."""
    if not isinstance(given, list | tuple) or not given:
        raise ConfigError(f"{key}: got {given!r}, expected a number for each masked layer")
    for weight in given:
        check_number(key, weight, low=0.0)


class KaleidoscopeQMixConfig(MaskedQMixConfig):
    """Configuration of `KaleidoscopeQMix`: QMIX's own, and the method's under `kaleidoscope()`.

    Example:
        >>> config = (
        ...     KaleidoscopeQMixConfig()
        ...     .environment("mpe_simple_spread", env_config={"N": 3})
        ...     .kaleidoscope(div_coef=0.5, total_env_steps=1_000_000)
        ... )
    """

    method_callbacks = (KaleidoscopeResetCallback,)

    own_layer = "kaleidoscope"

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
    div_coef: float = MaskedQMixConfig.declared("div_coef", 0.5)
    div_layer_weights: Any = checked(
        None,
        "Weight of each masked layer in the diversity loss, from input to output; null means 1, 2, 4, 8, ...: layers "
        "near the output count more.",
        _check_layer_weights,
        "a number of at least 0 for each masked layer",
        optional=True,
    )
    reset_interval: int | None = MaskedQMixConfig.declared("reset_interval", 200_000)

    @fluent
    def kaleidoscope(self, **settings: Any) -> Self:
        """Sets how agents prune."""
        self.set(**settings)
        return self

    def decided_by_length(self) -> str | None:
        """Returns what the run's length decides, as the beginning of a sentence; nothing without resets."""
        return "resets end" if self.reset_interval else None


class KaleidoscopeQMixTorchPolicy(MaskedQMixTorchPolicy):
    """QMIX's policy with Kaleidoscope's diversity loss."""

    layer_type = KaleidoscopeLinear

    def __init__(self, observation_space: Any, action_space: Any, config: dict[str, Any]) -> None:
        super().__init__(observation_space, action_space, config)
        given, expected = config["div_layer_weights"], len(self.masked_layers())
        if given is not None and len(given) != expected:
            raise ConfigError(f"div_layer_weights: got {given!r}, expected {expected} numbers, one for each layer")

    def masked_layers(self) -> list[KaleidoscopeLinear]:
        """Returns the learner's masked layers, from input to output."""
        return self.model.agent.layers_of(KaleidoscopeLinear)

    def reset_generator(self) -> torch.Generator | None:
        """Returns what the next reset draws from, made of the run's seed and the resets so far."""
        if self.config["seed"] is None:
            return None
        seed = np.random.SeedSequence([self.config["seed"], self.record.resets_total]).generate_state(1)[0]
        return torch.Generator(self.device).manual_seed(int(seed))

    def diversity_loss(self, weights: AgentWeights) -> Tensor:
        """Returns minus how much owners' masks differ, see `kaleidoscope_diversity_loss`."""
        return kaleidoscope_diversity_loss(self.masked_layers(), self.config["div_layer_weights"])

    def method_metrics(self) -> dict[str, Tensor | float]:
        """Returns the metrics of masks and resets as they stand."""
        return {
            **super().method_metrics(),
            **kaleidoscope_metrics(self.masked_layers()),
            "revived_total": self.record.revived_total,
        }


class KaleidoscopeQMix(MaskedQMix):
    """QMIX whose agents share weights and prune, each, what lies below its own learned thresholds."""

    config: KaleidoscopeQMixConfig
    config_class = KaleidoscopeQMixConfig
    policy_class = KaleidoscopeQMixTorchPolicy


ALGORITHMS.register("KaleidoscopeQMix", KaleidoscopeQMix)
