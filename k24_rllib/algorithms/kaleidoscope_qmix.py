"""Kaleidoscope QMIX (arXiv 2410.08540): agents share weights, and each prunes what lies below thresholds of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from torch import Tensor

from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy
from k24_rllib.callbacks import KaleidoscopeResetCallback
from k24_rllib.checks import ConfigError, check_number
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import QMixConfig, QMixTorchPolicy
from k24_rllib.sparsity import KaleidoscopeLinear, kaleidoscope_diversity_loss, kaleidoscope_metrics


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

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or KaleidoscopeQMix)
        self.layer = "kaleidoscope"
        self.threshold_scale = 5.0
        self.threshold_bias = 5.0
        self.div_coef = 0.5
        self.div_layer_weights = None
        self.reset_interval = 200_000

    def kaleidoscope(
        self,
        *,
        total_env_steps: int = NotProvided,
        threshold_scale: float = NotProvided,
        threshold_bias: float = NotProvided,
        div_coef: float = NotProvided,
        div_window: int = NotProvided,
        div_layer_weights: Sequence[float] | None = NotProvided,
        reset_interval: int | None = NotProvided,
        reset_fraction: float = NotProvided,
    ) -> Self:
        """Sets how agents prune.

        Args:
            total_env_steps: Environment steps of the whole run; resets end one `reset_interval` before it. The command
                line takes it from the file's `stop`; otherwise give it, or 1,000,000 is assumed and said.
            threshold_scale: Thresholds start at `-(scale * u + bias)`, `u` uniform in [0, 1), before a sigmoid. More
                makes agents differ more from the start.
            threshold_bias: Less prunes more from the start (5: weights below 0.007).
            div_coef: Weight of the diversity loss relative to the TD loss (adaptive: their ratio is held there).
                More makes agents prune different weights; 0 switches it off, and nothing prunes but the TD loss.
            div_window: Updates over which that ratio is averaged.
            div_layer_weights: Weight of each masked layer in the diversity loss, from input to output; None means
                1, 2, 4, 8, ...: layers near the output count more.
            reset_interval: Environment steps between two resets; None or 0 for none.
            reset_fraction: Share of the connections pruned by every agent that a reset revives. More keeps more
                of the network in use, and disturbs it more.
        """
        self._set_provided(locals())
        return self

    def decided_by_length(self) -> str | None:
        """Returns what the run's length decides, as the beginning of a sentence; nothing without resets."""
        return "resets end" if self.reset_interval else None

    def _check_method(self) -> None:
        check_number("threshold_scale", self.threshold_scale, low=0.0)
        check_number("threshold_bias", self.threshold_bias)
        self._check_layer_weights()

    def _check_layer_weights(self) -> None:
        """Checks that there is a number for each masked layer: four, and one more where there is no GRU."""
        given, expected = self.div_layer_weights, 4 if self.recurrent else 5
        if given is None:
            return
        if not isinstance(given, list | tuple) or len(given) != expected:
            raise ConfigError(f"div_layer_weights: got {given!r}, expected {expected} numbers, one for each layer")
        for weight in given:
            check_number("div_layer_weights", weight, low=0.0)

    def model_options(self) -> dict[str, Any]:
        """Returns the `custom_model_config` of the model, with the layer's options."""
        layer_options = {"threshold_scale": self.threshold_scale, "threshold_bias": self.threshold_bias}
        return {**super().model_options(), "layer_options": layer_options}


class KaleidoscopeQMixTorchPolicy(MaskedQMixTorchPolicy):
    """QMIX's policy with Kaleidoscope's diversity loss."""

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

    @classmethod
    def get_default_config(cls) -> KaleidoscopeQMixConfig:
        """Returns the configuration with every default."""
        return KaleidoscopeQMixConfig()

    @classmethod
    def get_default_policy_class(cls, config: QMixConfig) -> type[QMixTorchPolicy]:
        """Returns the policy class."""
        return KaleidoscopeQMixTorchPolicy
