"""Kaleidoscope QMIX (arXiv 2410.08540): agents share weights, and each prunes what lies below thresholds of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor

from k24_rllib.algorithms.k24_qmix import DEFAULT_TOTAL_ENV_STEPS
from k24_rllib.callbacks import KaleidoscopeResetCallback
from k24_rllib.checks import ConfigError, check_number
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import QMix, QMixConfig, QMixTorchPolicy
from k24_rllib.sparsity import (
    AdaptiveDiversityCoefficient,
    KaleidoscopeLinear,
    kaleidoscope_diversity_loss,
    kaleidoscope_metrics,
)

logger = logging.getLogger(__name__)


class KaleidoscopeQMixConfig(QMixConfig):
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
        self.total_env_steps = None
        self.threshold_scale = 5.0
        self.threshold_bias = 5.0
        self.div_coef = 0.5
        self.div_window = 100
        self.div_layer_weights = None
        self.reset_interval = 200_000
        self.reset_fraction = 0.1

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

    def validate(self) -> None:
        """Checks all values; `ConfigError` names the first that cannot work."""
        if self.total_env_steps is not None:
            check_number("total_env_steps", self.total_env_steps, low=1, integer=True)
        check_number("threshold_scale", self.threshold_scale, low=0.0)
        check_number("threshold_bias", self.threshold_bias)
        check_number("div_coef", self.div_coef, low=0.0)
        check_number("div_window", self.div_window, low=1, integer=True)
        self._check_layer_weights()
        check_number("reset_fraction", self.reset_fraction, low=0.0, high=1.0)
        self._check_reset_interval()
        super().validate()

    def _check_layer_weights(self) -> None:
        """Checks that there is a number for each masked layer: four, and one more where there is no GRU."""
        given, expected = self.div_layer_weights, 4 if self.recurrent else 5
        if given is None:
            return
        if not isinstance(given, list | tuple) or len(given) != expected:
            raise ConfigError(f"div_layer_weights: got {given!r}, expected {expected} numbers, one for each layer")
        for weight in given:
            check_number("div_layer_weights", weight, low=0.0)

    def _check_reset_interval(self) -> None:
        """Checks the interval; one that was asked for must fit into the run."""
        if self.reset_interval is None:
            return
        interval = check_number("reset_interval", self.reset_interval, low=0, integer=True)
        total = self.total_env_steps or DEFAULT_TOTAL_ENV_STEPS
        if interval > total and self.is_given("reset_interval"):
            raise ConfigError(
                f"reset_interval: got {interval} with total_env_steps {total}, expected at most the run's length"
            )

    def model_options(self) -> dict[str, Any]:
        """Returns the `custom_model_config` of the model, with the layer's options."""
        layer_options = {"threshold_scale": self.threshold_scale, "threshold_bias": self.threshold_bias}
        return {**super().model_options(), "layer_options": layer_options}


class KaleidoscopeQMixTorchPolicy(QMixTorchPolicy):
    """QMIX's policy with Kaleidoscope's diversity loss.

    Attributes:
        last_reset_step: Environment steps sampled when the last reset came, 0 before the first.
        resets_total: Resets so far.
        revived_total: Connections that they revived, all together.
    """

    def __init__(self, observation_space: Any, action_space: Any, config: dict[str, Any]) -> None:
        super().__init__(observation_space, action_space, config)
        self.diversity = AdaptiveDiversityCoefficient(config["div_coef"], window=config["div_window"]).to(self.device)
        self.last_reset_step = self.resets_total = self.revived_total = 0

    def masked_layers(self) -> list[KaleidoscopeLinear]:
        """Returns the learner's masked layers, from input to output."""
        return self.model.agent.kaleidoscope_layers()

    def progress(self) -> float:
        """Returns the share of the run's environment steps that are sampled, 0 to 1."""
        return min(self.global_timestep / self.total_env_steps(), 1.0)

    def total_env_steps(self) -> int:
        """Returns the run's environment steps; see `KaleidoscopeQMixConfig.kaleidoscope`."""
        return int(self.config["total_env_steps"] or DEFAULT_TOTAL_ENV_STEPS)

    def reset_generator(self) -> torch.Generator | None:
        """Returns what the next reset draws from, made of the run's seed and the resets so far."""
        if self.config["seed"] is None:
            return None
        seed = np.random.SeedSequence([self.config["seed"], self.resets_total]).generate_state(1)[0]
        return torch.Generator(self.device).manual_seed(int(seed))

    def auxiliary_loss(self, loss_td: Tensor, weights: AgentWeights) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Returns `c * L_div` and its parts; `c` holds it at `div_coef` times the TD loss."""
        div_loss = kaleidoscope_diversity_loss(self.masked_layers(), self.config["div_layer_weights"])
        coefficient = self.diversity.update(loss_td.detach(), div_loss.detach())
        stats = {"div_loss": div_loss.detach(), "div_coef": coefficient}
        return (coefficient * div_loss if self.config["div_coef"] else None), stats

    def mask_metrics(self) -> dict[str, Tensor | float]:
        """Returns the metrics of the masks as they stand."""
        return {**kaleidoscope_metrics(self.masked_layers()), "progress": self.progress()}

    def get_state(self) -> dict[str, Any]:
        """Returns QMIX's state, the histories behind the adaptive weight, and what resets remember."""
        return {
            **super().get_state(),
            "diversity": {name: value.cpu().numpy() for name, value in self.diversity.state_dict().items()},
            "resets": {name: getattr(self, name) for name in _RESET_COUNTERS},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        super().set_state(state)
        self.diversity.load_state_dict(convert_to_torch_tensor(state["diversity"], device=self.device))
        for name in _RESET_COUNTERS:
            setattr(self, name, state["resets"][name])


_RESET_COUNTERS = ("last_reset_step", "resets_total", "revived_total")


class KaleidoscopeQMix(QMix):
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

    def setup(self, config: Any) -> None:
        """Builds everything, and says so where the run's length was not given."""
        super().setup(config)
        if self.config.total_env_steps is None and self.config.reset_interval:
            logger.warning(
                "total_env_steps is not given: resets end %s environment steps before %s",
                f"{self.config.reset_interval:,}",
                f"{DEFAULT_TOTAL_ENV_STEPS:,}",
            )

    def learner_metrics(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Returns QMIX's metrics and those of the masks."""
        policy = self.policy
        assert isinstance(policy, KaleidoscopeQMixTorchPolicy)
        return super().learner_metrics({**metrics, **policy.mask_metrics()})
