"""K-2:4 QMIX: QMIX whose agents share weights but keep, each, a learned 2 of every 4."""

from __future__ import annotations

import logging
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor

from k24_rllib.callbacks import TemperatureCallback
from k24_rllib.checks import check_choice, check_number
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import QMix, QMixConfig, QMixTorchPolicy
from k24_rllib.sparsity import (
    SAMPLING,
    AdaptiveDiversityCoefficient,
    SemiStructuredLinear,
    pattern_metrics,
    temperature_at,
)

logger = logging.getLogger(__name__)

DEFAULT_TOTAL_ENV_STEPS = 1_000_000


class K24QMixConfig(QMixConfig):
    """Configuration of `K24QMix`: QMIX's own, and the method's under `k24()`.

    Example:
        >>> config = (
        ...     K24QMixConfig()
        ...     .environment("mpe_simple_spread", env_config={"N": 3})
        ...     .k24(temperature_init=5.0, total_env_steps=500_000)
        ... )
    """

    method_callbacks = (TemperatureCallback,)

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or K24QMix)
        self.layer = "2:4"
        self.total_env_steps = None
        self.sampling = "tempered"
        self.temperature_init = 5.0
        self.temperature_final = 0.2
        self.temperature_end = 0.8
        self.temperature_schedule = "linear"
        self.ema_momentum = 0.99
        self.div_coef = 0.1
        self.div_window = 100

    def k24(
        self,
        *,
        total_env_steps: int = NotProvided,
        sampling: str = NotProvided,
        temperature_init: float = NotProvided,
        temperature_final: float = NotProvided,
        temperature_end: float = NotProvided,
        temperature_schedule: str = NotProvided,
        ema_momentum: float = NotProvided,
        div_coef: float = NotProvided,
        div_window: int = NotProvided,
    ) -> Self:
        """Sets how masks are learned.

        Args:
            total_env_steps: Environment steps of the whole run, against which progress (0 to 1) is measured. The
                command line takes it from the file's `stop`; otherwise give it, or 1,000,000 is assumed and said.
            sampling: `tempered` draws patterns from the distribution itself, so that noise dies as the temperature
                falls; `gumbel` is the textbook hard Gumbel-softmax, whose draws do not depend on the temperature.
            temperature_init: Temperature at the start. Higher draws patterns more uniformly.
            temperature_final: Temperature at the end. Lower closes the gap between drawn and most likely pattern.
            temperature_end: Progress at which the final temperature is reached.
            temperature_schedule: `linear` or `two_phase`.
            ema_momentum: Momentum of the average input scale in the scores; nearer 1 follows more slowly.
            div_coef: Weight of the diversity loss relative to the TD loss (adaptive: their ratio is held there).
                More pulls the agents' patterns apart harder; 0 switches it off.
            div_window: Updates over which that ratio is averaged.
        """
        self._set_provided(locals())
        return self

    def validate(self) -> None:
        """Checks all values; `ConfigError` names the first that cannot work."""
        if self.total_env_steps is not None:
            check_number("total_env_steps", self.total_env_steps, low=1, integer=True)
        check_choice("sampling", self.sampling, SAMPLING)
        temperature_at(
            0.0,
            init=self.temperature_init,
            final=self.temperature_final,
            end=self.temperature_end,
            schedule=self.temperature_schedule,
        )
        check_number("ema_momentum", self.ema_momentum, low=0.0, high=1.0)
        check_number("div_coef", self.div_coef, low=0.0)
        check_number("div_window", self.div_window, low=1, integer=True)
        super().validate()

    def model_options(self) -> dict[str, Any]:
        """Returns the `custom_model_config` of the model, with the 2:4 layer's options."""
        layer_options = {
            "sampling": self.sampling,
            "temperature": self.temperature_init,
            "ema_momentum": self.ema_momentum,
            "compiled": self.compile_kernels,
        }
        return {**super().model_options(), "layer_options": layer_options}


class K24QMixTorchPolicy(QMixTorchPolicy):
    """QMIX's policy with the pattern-orthogonality loss (method, module C)."""

    def __init__(self, observation_space: Any, action_space: Any, config: dict[str, Any]) -> None:
        super().__init__(observation_space, action_space, config)
        self.diversity = AdaptiveDiversityCoefficient(config["div_coef"], window=config["div_window"]).to(self.device)

    def masked_layers(self) -> list[SemiStructuredLinear]:
        """Returns the learner's 2:4 layers, from input to output."""
        return self.model.agent.semi_structured_layers()

    def progress(self) -> float:
        """Returns the share of the run's environment steps that are sampled, 0 to 1."""
        return min(self.global_timestep / self.total_env_steps(), 1.0)

    def total_env_steps(self) -> int:
        """Returns the run's environment steps; see `K24QMixConfig.k24`."""
        return int(self.config["total_env_steps"] or DEFAULT_TOTAL_ENV_STEPS)

    def auxiliary_loss(self, loss_td: Tensor, weights: AgentWeights) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Returns `c * L_div` and its parts; `c` holds it at `div_coef` times the TD loss."""
        joint = self.model.agent.joint
        assert joint is not None
        assert weights.probs is not None
        div_loss = joint.diversity("dot", self.masked_layers(), weights.probs)
        coefficient = self.diversity.update(loss_td.detach(), div_loss.detach())
        stats = {"div_loss": div_loss.detach(), "div_coef": coefficient}
        return (coefficient * div_loss if self.config["div_coef"] else None), stats

    def pattern_metrics(self) -> dict[str, Tensor]:
        """Returns the metrics of the patterns as they stand, 0-dimensional tensors."""
        return pattern_metrics(self.masked_layers())

    def get_state(self) -> dict[str, Any]:
        """Returns QMIX's state and the histories behind the adaptive weight."""
        histories = {name: value.cpu().numpy() for name, value in self.diversity.state_dict().items()}
        return {**super().get_state(), "diversity": histories}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        super().set_state(state)
        self.diversity.load_state_dict(convert_to_torch_tensor(state["diversity"], device=self.device))


class K24QMix(QMix):
    """QMIX whose agents share weights and keep, each, a learned 2 of every 4: the method in short is in the README."""

    config: K24QMixConfig

    @classmethod
    def get_default_config(cls) -> K24QMixConfig:
        """Returns the configuration with every default."""
        return K24QMixConfig()

    @classmethod
    def get_default_policy_class(cls, config: QMixConfig) -> type[QMixTorchPolicy]:
        """Returns the policy class."""
        return K24QMixTorchPolicy

    def setup(self, config: Any) -> None:
        """Builds everything, and says so where the run's length was not given."""
        super().setup(config)
        if self.config.total_env_steps is None:
            logger.warning(
                "total_env_steps is not given: the temperature falls over %s environment steps",
                f"{DEFAULT_TOTAL_ENV_STEPS:,}",
            )

    def learner_metrics(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Returns QMIX's metrics and those of the patterns."""
        policy = self.policy
        assert isinstance(policy, K24QMixTorchPolicy)
        return super().learner_metrics({**metrics, **policy.pattern_metrics()})
