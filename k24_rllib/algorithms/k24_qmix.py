"""K-2:4 QMIX: QMIX whose agents share weights but keep, each, a learned 2 of every 4."""

from __future__ import annotations

import copy
import logging
from dataclasses import asdict
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor

from k24_rllib.algorithms.policy_change import PolicyChange
from k24_rllib.callbacks import (
    AdaptiveResetCallback,
    FinetuneCallback,
    PeriodicResetCallback,
    RewindCallback,
    RunRecord,
    TemperatureCallback,
)
from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import QMix, QMixConfig, QMixTorchPolicy
from k24_rllib.qmix.policy import TrainBatch
from k24_rllib.sparsity import (
    DIVERSITY_LOSSES,
    MASKS,
    NM_RATIOS,
    REVIVE,
    AdaptiveDiversityCoefficient,
    MaskFlipTracker,
    SemiStructuredLinear,
    check_estimator,
    pattern_metrics,
    temperature_at,
)

logger = logging.getLogger(__name__)

DEFAULT_TOTAL_ENV_STEPS = 1_000_000
RESET_KEYS = (
    "reset_interval",
    "reset_fraction",
    "revive",
    "ema_reset_step",
    "kl_reset",
    "kl_threshold",
    "kl_min_interval",
)


class K24QMixConfig(QMixConfig):
    """Configuration of `K24QMix`: QMIX's own, and the method's under `k24()`.

    Example:
        >>> config = (
        ...     K24QMixConfig()
        ...     .environment("mpe_simple_spread", env_config={"N": 3})
        ...     .k24(temperature_init=5.0, total_env_steps=500_000)
        ... )
    """

    # The order in which they act before an update. A rewind follows the freezing that it belongs to.
    method_callbacks = (
        TemperatureCallback,
        PeriodicResetCallback,
        AdaptiveResetCallback,
        FinetuneCallback,
        RewindCallback,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or K24QMix)
        self.layer = "n:m"
        self.total_env_steps = None

        # Masks: which patterns there are, and how they are drawn and learned from.
        self.pattern = "2:4"
        self.masks = "learned"
        self.shared_mask = False
        self.sampling = "tempered"
        self.estimator = "straight_through"
        self.rao_blackwell_samples = 10
        self.ema_momentum = 0.99
        self.ema_per_owner = False

        # The temperature falls between these values of progress.
        self.temperature_init = 5.0
        self.temperature_final = 0.2
        self.temperature_end = 0.8
        self.temperature_schedule = "linear"

        # Diversity between mask owners.
        self.diversity = "dot"
        self.div_coef = 0.1
        self.div_window = 100

        # Resets, in environment steps.
        self.reset_interval = 10_000
        self.reset_fraction = 0.1
        self.revive = "dead"
        self.ema_reset_step = 0.1
        self.kl_reset = False
        self.kl_threshold = 0.1
        self.kl_min_interval = 1_000

        # Finetuning, at this progress.
        self.finetune_at = 0.8
        self.finetune_lr_factor = 0.1
        self.rewind_to = None

    def k24(
        self,
        *,
        total_env_steps: int = NotProvided,
        pattern: str = NotProvided,
        masks: str = NotProvided,
        shared_mask: bool = NotProvided,
        sampling: str = NotProvided,
        estimator: str = NotProvided,
        rao_blackwell_samples: int = NotProvided,
        ema_momentum: float = NotProvided,
        ema_per_owner: bool = NotProvided,
        temperature_init: float = NotProvided,
        temperature_final: float = NotProvided,
        temperature_end: float = NotProvided,
        temperature_schedule: str = NotProvided,
        diversity: str = NotProvided,
        div_coef: float = NotProvided,
        div_window: int = NotProvided,
        reset_interval: int | None = NotProvided,
        reset_fraction: float = NotProvided,
        revive: str = NotProvided,
        ema_reset_step: float = NotProvided,
        kl_reset: bool = NotProvided,
        kl_threshold: float = NotProvided,
        kl_min_interval: int = NotProvided,
        finetune_at: float | None = NotProvided,
        finetune_lr_factor: float = NotProvided,
        rewind_to: float | None = NotProvided,
    ) -> Self:
        """Sets how masks are learned.

        Args:
            total_env_steps: Environment steps of the whole run, against which progress (0 to 1) is measured. The
                command line takes it from the file's `stop`; otherwise give it, or 1,000,000 is assumed and said.
            pattern: Weights kept of each group, `2:4`, `1:4`, `2:8` or `4:8`. Sparse tensor cores know the first. Wider
                groups choose more freely, and cost time and memory (6, 4, 28 and 70 patterns).
            masks: `learned`, or `fixed_random`: each owner's patterns are drawn once and never change (a baseline).
            shared_mask: Whether all owners have one and the same mask (a baseline).
            sampling: `tempered` draws patterns from the distribution itself, so that noise dies as the temperature
                falls; `gumbel` is the textbook hard Gumbel-softmax (arXiv 1611.01144), whose draws do not depend on the
                temperature.
            estimator: Gradient of a draw: `straight_through`; `reinmax` (arXiv 2304.08612), more exact and noisier;
                `rao_blackwell` (arXiv 2010.04838), with `gumbel` alone, less noisy and slower.
            rao_blackwell_samples: Noises that `rao_blackwell` averages; more is less noisy and slower.
            ema_momentum: Momentum of the average input scale in the scores; nearer 1 follows more slowly.
            ema_per_owner: Whether each owner's scores use the scale of its own inputs, instead of everybody's.
            temperature_init: Temperature at the start. Higher draws patterns more uniformly.
            temperature_final: Temperature at the end. Lower closes the gap between drawn and most likely pattern.
            temperature_end: Progress at which the final temperature is reached; not after `finetune_at`.
            temperature_schedule: `linear`, `two_phase` or `cosine`.
            diversity: What owners are pushed apart by: `dot` (how often they agree, the method's), `cosine` (that,
                whatever their certainty), `js` (Jensen-Shannon) or `weighted` (mask differences times `|W|`).
            div_coef: Weight of the diversity loss relative to the TD loss (adaptive: their ratio is held there).
                More pulls the agents' patterns apart harder; 0 switches it off.
            div_window: Updates over which that ratio is averaged.
            reset_interval: Environment steps between resets of masks; None or 0 for none. Fewer explore longer, and
                disturb more. A run shorter than the default has none.
            reset_fraction: Share of `alpha` that a reset redraws. More explores more, and forgets more.
            revive: Which part: `dead`, the entries least often selected, or `random`.
            ema_reset_step: Share of the way to its mean that a reset moves the input scale `E`.
            kl_reset: Whether masks are also reset when behaviour jumps between two learner batches.
            kl_threshold: KL divergence in nats above which it does. Lower resets sooner.
            kl_min_interval: Environment steps after a reset in which it may not.
            finetune_at: Progress from which masks are frozen and weights settle; None for never.
            finetune_lr_factor: Share of the scheduled learning rate from then on. Lower settles more calmly.
            rewind_to: Progress whose weights of the masked layers finetuning begins with (lottery-ticket rewinding);
                None goes on with those of the moment.
        """
        self._set_provided(locals())
        return self

    def validate(self) -> None:
        """Checks all values; `ConfigError` names the first that cannot work, or two that contradict each other."""
        check_choice("layer", self.layer, ("n:m",))
        if self.total_env_steps is not None:
            check_number("total_env_steps", self.total_env_steps, low=1, integer=True)
        self._check_masks()
        self._check_resets()
        self._check_finetuning()
        super().validate()

    def _check_masks(self) -> None:
        check_choice("pattern", self.pattern, NM_RATIOS)
        check_choice("masks", self.masks, MASKS)
        check_bool("shared_mask", self.shared_mask)
        check_estimator(self.estimator, self.sampling)
        check_number("rao_blackwell_samples", self.rao_blackwell_samples, low=1, integer=True)
        check_number("ema_momentum", self.ema_momentum, low=0.0, high=1.0)
        if check_bool("ema_per_owner", self.ema_per_owner) and self.shared_mask:
            raise ConfigError(
                "ema_per_owner: got true with shared_mask true, expected one of them: one mask, one scale"
            )
        temperature_at(
            0.0,
            init=self.temperature_init,
            final=self.temperature_final,
            end=self.temperature_end,
            schedule=self.temperature_schedule,
        )
        check_choice("diversity", self.diversity, DIVERSITY_LOSSES)
        check_number("div_coef", self.div_coef, low=0.0)
        check_number("div_window", self.div_window, low=1, integer=True)

    def _check_resets(self) -> None:
        if self.reset_interval is not None:
            check_number("reset_interval", self.reset_interval, low=0, integer=True)
        check_number("reset_fraction", self.reset_fraction, low=0.0, high=1.0)
        check_choice("revive", self.revive, REVIVE)
        check_number("ema_reset_step", self.ema_reset_step, low=0.0, high=1.0)
        check_bool("kl_reset", self.kl_reset)
        check_number("kl_threshold", self.kl_threshold, low=0.0)
        check_number("kl_min_interval", self.kl_min_interval, low=0, integer=True)
        total = self.total_env_steps or DEFAULT_TOTAL_ENV_STEPS
        for key, used in (("reset_interval", self.is_given("reset_interval")), ("kl_min_interval", self.kl_reset)):
            if used and (steps := getattr(self, key) or 0) > total:
                raise ConfigError(f"{key}: got {steps} with total_env_steps {total}, expected at most the run's length")
        if self.masks != "fixed_random":
            return
        for key in RESET_KEYS:
            if self.is_given(key) and getattr(self, key):
                raise ConfigError(
                    f"{key}: got {getattr(self, key)!r} with masks 'fixed_random', expected masks 'learned': "
                    "fixed masks are never reset"
                )

    def _check_finetuning(self) -> None:
        check_number("finetune_lr_factor", self.finetune_lr_factor, above=0.0)
        start, rewind_to = self.finetune_at, self.rewind_to
        if start is not None:
            check_number("finetune_at", start, above=0.0, high=1.0)
            if start < self.temperature_end and self.masks == "learned":
                raise ConfigError(
                    f"finetune_at: got {start} with temperature_end {self.temperature_end}, expected at least as much: "
                    "masks freeze once their temperature has fallen"
                )
        if rewind_to is None:
            return
        check_number("rewind_to", rewind_to, low=0.0, high=1.0)
        if start is None or rewind_to >= start:
            raise ConfigError(
                f"rewind_to: got {rewind_to} with finetune_at {start}, expected less: finetuning goes back to it"
            )

    def model_options(self) -> dict[str, Any]:
        """Returns the `custom_model_config` of the model, with the masked layer's options."""
        layer_options = {
            "masks": self.masks,
            "shared_mask": self.shared_mask,
            "sampling": self.sampling,
            "estimator": self.estimator,
            "rao_blackwell_samples": self.rao_blackwell_samples,
            "temperature": self.temperature_init,
            "ema_momentum": self.ema_momentum,
            "ema_per_owner": self.ema_per_owner,
            "compiled": self.compile_kernels,
        }
        return {**super().model_options(), "layer": self.pattern, "layer_options": layer_options}


class K24QMixTorchPolicy(QMixTorchPolicy):
    """QMIX's policy with the pattern-orthogonality loss (method, module C), and what the method's callbacks act on."""

    def __init__(self, observation_space: Any, action_space: Any, config: dict[str, Any]) -> None:
        super().__init__(observation_space, action_space, config)
        self.diversity = AdaptiveDiversityCoefficient(config["div_coef"], window=config["div_window"]).to(self.device)
        self.policy_change = PolicyChange()
        self.record = RunRecord()
        self._mask_flips = MaskFlipTracker()

    def masked_layers(self) -> list[SemiStructuredLinear]:
        """Returns the learner's masked layers, from input to output."""
        return self.model.agent.semi_structured_layers()

    def progress(self) -> float:
        """Returns the share of the run's environment steps that are sampled, 0 to 1."""
        return min(self.global_timestep / self.total_env_steps(), 1.0)

    def total_env_steps(self) -> int:
        """Returns the run's environment steps; see `K24QMixConfig.k24`."""
        return int(self.config["total_env_steps"] or DEFAULT_TOTAL_ENV_STEPS)

    # --- what callbacks do to it

    def masks_frozen(self) -> bool:
        """Returns whether masks no longer change."""
        return any(layer.frozen for layer in self.masked_layers())

    def freeze_masks(self) -> None:
        """Fixes all masks for good at their most likely patterns, in the target network too.

        The target takes over all that decides masks (it would otherwise follow softly, and `alpha` would go on moving
        there), but keeps its own weights and biases.
        """
        targets = self.target_model.agent.semi_structured_layers()
        for online, target in zip(self.masked_layers(), targets, strict=True):
            online.freeze_masks()
            own = {"weight": target.weight, "bias": target.bias}
            target.load_state_dict({**online.state_dict(), **own})

    def forget_moments(self, parameter: Tensor, entries: Tensor | None = None) -> None:
        """Clears what the optimizer remembers of a parameter, or of `entries` (bool, shaped like it) alone."""
        for optimizer in self._optimizers:
            if entries is None:
                optimizer.state.pop(parameter, None)
                continue
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:  # not the count of its steps
                    moment.masked_fill_(entries, 0.0)

    def set_learning_rate(self, lr: float) -> None:
        """Sets the optimizer's learning rate, until RLlib's schedule sets it again."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr

    # --- learning

    def online_values(self, batch: TrainBatch, weights: AgentWeights) -> Tensor:
        """Returns the online network's action values `[T+1, B, N, U]`, and remembers them for `kl_div`."""
        q = super().online_values(batch, weights)
        self.policy_change.see(q[:-1], batch.available[:-1], batch.valid)
        return q

    def auxiliary_loss(self, loss_td: Tensor, weights: AgentWeights) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Returns `c * L_div` and its parts; `c` holds it at `div_coef` times the TD loss. Frozen masks have none."""
        joint = self.model.agent.joint
        if joint is None or weights.probs is None:
            nothing = loss_td.new_zeros(())
            return None, {"div_loss": nothing, "div_coef": nothing}
        div_loss = joint.diversity(self.config["diversity"], self.masked_layers(), weights.probs)
        coefficient = self.diversity.update(loss_td.detach(), div_loss.detach())
        stats = {"div_loss": div_loss.detach(), "div_coef": coefficient}
        return (coefficient * div_loss if self.config["div_coef"] else None), stats

    def method_metrics(self) -> dict[str, Tensor | float]:
        """Returns the metrics of masks and events as they stand; changes are those since the last call.

        Everything is explained in docs/metrics.md. Tensors are 0-dimensional and unread.
        """
        layers = self.masked_layers()
        return {
            **pattern_metrics(layers),
            "mask_flip_rate": self._mask_flips.update(layers),
            "kl_div": self.policy_change.divergence(),
            "resets_total": self.record.resets_total,
            "finetune_mode": int(self.record.finetuning),
        }

    # --- state

    def get_state(self) -> dict[str, Any]:
        """Returns QMIX's state and all that the method remembers."""
        histories = {name: value.cpu().numpy() for name, value in self.diversity.state_dict().items()}
        return {
            **super().get_state(),
            "diversity": histories,
            "policy_change": self.policy_change.get_state(),
            "mask_flips": convert_to_numpy(self._mask_flips.get_state()),
            "record": asdict(self.record),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        super().set_state(state)
        self.diversity.load_state_dict(convert_to_torch_tensor(state["diversity"], device=self.device))
        self.policy_change.set_state(state["policy_change"], self.device)
        self._mask_flips.set_state(convert_to_torch_tensor(state["mask_flips"], device=self.device))
        self.record = RunRecord(**copy.deepcopy(state["record"]))


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
                "total_env_steps is not given: temperature and finetuning go by %s environment steps",
                f"{DEFAULT_TOTAL_ENV_STEPS:,}",
            )

    def learner_metrics(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Returns QMIX's metrics and the method's; called once an iteration."""
        policy = self.policy
        assert isinstance(policy, K24QMixTorchPolicy)
        return super().learner_metrics({**metrics, **policy.method_metrics()})
