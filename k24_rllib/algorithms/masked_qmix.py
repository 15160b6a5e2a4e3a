"""QMIX whose agents share weights and mask them, each by its own learned mask: what all such algorithms have in common.

An algorithm adds its layer, its diversity loss, its callbacks and its settings: see `k24_qmix.py` and
`kaleidoscope_qmix.py`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor

from k24_rllib.algorithms.masked_settings import MaskedSettings
from k24_rllib.callbacks import RunRecord
from k24_rllib.checks import ConfigError
from k24_rllib.models import AgentWeights
from k24_rllib.monitoring import Figure
from k24_rllib.qmix import QMix, QMixConfig, QMixTorchPolicy
from k24_rllib.qmix.figures import LEARNER
from k24_rllib.sparsity import AdaptiveDiversityCoefficient, MaskedLayer

logger = logging.getLogger(__name__)

DEFAULT_TOTAL_ENV_STEPS = 1_000_000
ADAM_MOMENTS = {"exp_avg", "exp_avg_sq"}

MASK_FIGURES = (
    Figure(
        "k24_density",
        "Share of the masked layers' weights that the agents keep.",
        f"{LEARNER}/overall_sparsity",
        "Masks",
        "Density",
        "complement",
    ),
    Figure("k24_div_loss", "Diversity loss of the last update.", f"{LEARNER}/div_loss", "Masks", "Diversity loss"),
    Figure(
        "k24_div_coef",
        "What the diversity loss is multiplied by.",
        f"{LEARNER}/div_coef",
        "Masks",
        "Diversity coefficient",
    ),
    Figure("k24_resets", "Resets of masks so far.", f"{LEARNER}/resets_total", "Masks", "Resets"),
)
"""What every algorithm with learned masks shows while it trains."""


def run_length(total_env_steps: int | None) -> int:
    """Returns the environment steps of a whole run: as given, or assumed."""
    return int(total_env_steps or DEFAULT_TOTAL_ENV_STEPS)


class MaskedQMixConfig(MaskedSettings, QMixConfig):
    """The settings that every algorithm with learned masks has."""

    @property
    def run_length(self) -> int:
        """Environment steps of the whole run: as given, or assumed."""
        return run_length(self.total_env_steps)

    def decided_by_length(self) -> str | None:
        """Returns what the run's length decides, as the beginning of a sentence, or None if it decides nothing."""
        return None

    def validate(self) -> None:
        """Checks all values; `ConfigError` names the first that cannot work, or two that contradict each other."""
        self.check_settings()
        self._check_method()
        if self.is_given("reset_interval"):  # in a run too short for the default there is no reset
            self._check_reset_fits("reset_interval")
        super().validate()

    def steps_of_mask_learning(self) -> tuple[float, str]:
        """Returns the environment steps in which masks can change, and the settings that say so."""
        return self.run_length, f"total_env_steps {self.run_length}"

    def _check_reset_fits(self, key: str) -> None:
        """Checks that one reset at least happens: after so many environment steps, with as many left to learn in."""
        steps = getattr(self, key) or 0
        learning, because = self.steps_of_mask_learning()
        if 2 * steps > learning:
            raise ConfigError(
                f"{key}: got {steps} with {because}, expected at most {int(learning / 2)}: a reset leaves the masks as "
                "many steps to learn again, so there would be none"
            )

    def _check_method(self) -> None:
        """Checks the settings of the algorithm's own; a subclass overrides it."""


class MaskedQMixTorchPolicy(QMixTorchPolicy):
    """QMIX's policy with a diversity loss between mask owners, and what the method's callbacks act on.

    A subclass says which layers it masks (`layer_type`, `masked_layers`) and what its diversity loss is
    (`diversity_loss`).

    Attributes:
        layer_type: The class of layer that the algorithm's loss and callbacks act on; a user's may be a subclass.
        diversity: The histories behind the diversity loss's weight.
        record: What has happened so far in the run.
    """

    layer_type: ClassVar[type[MaskedLayer]]

    def __init__(self, observation_space: Any, action_space: Any, config: dict[str, Any]) -> None:
        super().__init__(observation_space, action_space, config)
        if not self.masked_layers():
            raise ConfigError(
                f"layer: got {config['layer']!r} with an algorithm that learns masks, expected null or a "
                f"{self.layer_type.__name__} (run: QMix takes any)"
            )
        self.diversity = AdaptiveDiversityCoefficient(config["div_coef"], window=config["div_window"]).to(self.device)
        self.record = RunRecord()
        self.guard.watch(self.diversity)
        self._forgotten: list[tuple[Tensor, Tensor]] = []
        for optimizer in self._optimizers:
            optimizer.register_step_pre_hook(self._begin_moments)

    def masked_layers(self) -> Sequence[MaskedLayer]:
        """Returns the learner's masked layers, from input to output."""
        raise NotImplementedError

    # --- where the run is

    def total_env_steps(self) -> int:
        """Returns the run's environment steps."""
        return run_length(self.config["total_env_steps"])

    def progress(self) -> float:
        """Returns the share of the run's environment steps that are sampled, 0 to 1."""
        return min(self.global_timestep / self.total_env_steps(), 1.0)

    def steps_to_learn(self) -> float:
        """Returns the environment steps for which masks can still change: here until the run's end."""
        return self.total_env_steps() - self.global_timestep

    # --- what callbacks do to it

    def forget_moments(self, parameter: Tensor, entries: Tensor | None = None) -> None:
        """Clears what the optimizer remembers of a parameter, or of `entries` (bool, shaped like it) alone.

        The next update gives such entries their first moments; see `_begin_moments`.
        """
        for optimizer in self._optimizers:
            if entries is None:
                optimizer.state.pop(parameter, None)
                continue
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:  # not the count of its steps
                    moment.masked_fill_(entries, 0.0)
        if entries is not None:
            self._forgotten.append((parameter, entries))

    @torch.no_grad()
    def _begin_moments(self, optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
        """Lets the moments of forgotten entries begin at this update's gradient, just before the optimizer's step.

        Their first step is then one learning rate, as Adam's own first step is (arXiv 1412.6980, section 3). Adam
        counts the steps of a parameter and not of its entries, and moments of 0 in a parameter that is not young are
        no longer corrected: the first step would be `(1 - beta1) / sqrt(1 - beta2)` = 3.2 learning rates.
        """
        for parameter, entries in self._forgotten:
            state, grad = optimizer.state.get(parameter, {}), parameter.grad
            if grad is None or not state.keys() >= ADAM_MOMENTS:
                continue
            first = grad.nan_to_num(0.0, 0.0, 0.0)  # where the device is about to skip the update
            state["exp_avg"].copy_(torch.where(entries, first, state["exp_avg"]))
            state["exp_avg_sq"].copy_(torch.where(entries, first.square(), state["exp_avg_sq"]))
        self._forgotten.clear()

    # --- learning

    def diversity_loss(self, weights: AgentWeights) -> Tensor | None:
        """Returns `L_div`, a scalar that is lower the more owners differ, or None where masks no longer change."""
        raise NotImplementedError

    def auxiliary_loss(self, loss_td: Tensor, weights: AgentWeights) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Returns `c * L_div` and its parts; `c` holds it at `div_coef` times the TD loss."""
        div_loss = self.diversity_loss(weights)
        if div_loss is None:
            nothing = loss_td.new_zeros(())
            return None, {"div_loss": nothing, "div_coef": nothing}
        coefficient = self.diversity.update(loss_td.detach(), div_loss.detach())
        stats = {"div_loss": div_loss.detach(), "div_coef": coefficient}
        return (coefficient * div_loss if self.config["div_coef"] else None), stats

    def method_metrics(self) -> dict[str, Tensor | float]:
        """Returns the metrics of masks and events as they stand; changes are those since the last call.

        Everything is explained in docs/metrics.md. Tensors are 0-dimensional and unread.
        """
        return {"progress": self.progress(), "resets_total": self.record.resets_total}

    # --- state

    def get_state(self) -> dict[str, Any]:
        """Returns QMIX's state, the histories behind the diversity loss's weight, and what callbacks remember."""
        return {
            **super().get_state(),
            "diversity": convert_to_numpy(self.diversity.state_dict()),
            "record": asdict(self.record),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        super().set_state(state)
        self.diversity.take_over(convert_to_torch_tensor(state["diversity"], device=self.device))
        self.record = RunRecord(**copy.deepcopy(state["record"]))


class MaskedQMix(QMix):
    """What all algorithms with learned masks have in common; train with one of its subclasses."""

    config: MaskedQMixConfig
    figures = (*QMix.figures, *MASK_FIGURES)

    def setup(self, config: Any) -> None:
        """Builds everything, and says so where the run's length was not given."""
        super().setup(config)
        decided = self.config.decided_by_length()
        if self.config.total_env_steps is None and decided is not None:
            logger.warning(
                "total_env_steps is not given: %s by %s environment steps", decided, f"{self.config.run_length:,}"
            )

    def learner_metrics(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Returns QMIX's metrics and the method's; called once an iteration."""
        policy = self.policy
        assert isinstance(policy, MaskedQMixTorchPolicy)
        return super().learner_metrics({**metrics, **policy.method_metrics()})
