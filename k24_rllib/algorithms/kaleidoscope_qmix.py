"""Kaleidoscope QMIX (arXiv 2410.08540): agents share weights, and each prunes what lies below thresholds of its own."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from k24_rllib.algorithms.kaleidoscope_settings import KaleidoscopeSettings
from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy
from k24_rllib.callbacks import KaleidoscopeResetCallback
from k24_rllib.checks import ConfigError
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import ALGORITHMS
from k24_rllib.settings import fluent
from k24_rllib.sparsity import KaleidoscopeLinear, kaleidoscope_diversity_loss, kaleidoscope_metrics


class KaleidoscopeQMixConfig(KaleidoscopeSettings, MaskedQMixConfig):
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
