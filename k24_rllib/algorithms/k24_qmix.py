"""K-2:4 QMIX: QMIX whose agents share weights but keep, each, a learned 2 of every 4."""

from __future__ import annotations

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor

from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy
from k24_rllib.algorithms.policy_change import PolicyChange
from k24_rllib.callbacks import (
    AdaptiveResetCallback,
    FinetuneCallback,
    PeriodicResetCallback,
    RewindCallback,
    TemperatureCallback,
)
from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number
from k24_rllib.models import AgentWeights
from k24_rllib.qmix import QMixConfig, QMixTorchPolicy
from k24_rllib.qmix.policy import TrainBatch
from k24_rllib.sparsity import (
    DIVERSITY_LOSSES,
    MASKS,
    NM_RATIOS,
    REVIVE,
    JointPatterns,
    MaskFlipTracker,
    PatternDraw,
    PatternWeights,
    SemiStructuredLinear,
    check_estimator,
    diversity_loss,
    pattern_metrics,
    temperature_at,
)

RESET_KEYS = (
    "reset_interval",
    "reset_fraction",
    "revive",
    "ema_reset_step",
    "kl_reset",
    "kl_threshold",
    "kl_min_interval",
)


def mask_learning_share(finetune_at: float | None) -> float:
    """Returns the share of a run in which masks can change: until finetuning, or all of it."""
    return 1.0 if finetune_at is None else finetune_at


class K24QMixConfig(MaskedQMixConfig):
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

        # Resets, in environment steps.
        self.reset_interval = 10_000
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

    def decided_by_length(self) -> str:
        """Returns what the run's length decides, as the beginning of a sentence."""
        return "temperature and finetuning go"

    def steps_of_mask_learning(self) -> tuple[float, str]:
        """Returns the environment steps until masks freeze, and the settings that say so."""
        steps, because = super().steps_of_mask_learning()
        if self.finetune_at is not None:
            because = f"finetune_at {self.finetune_at} of {because}"
        return mask_learning_share(self.finetune_at) * steps, because

    def _check_method(self) -> None:
        self._check_masks()
        self._check_finetuning()
        self._check_resets()

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

    def _check_resets(self) -> None:
        check_choice("revive", self.revive, REVIVE)
        check_number("ema_reset_step", self.ema_reset_step, low=0.0, high=1.0)
        check_bool("kl_reset", self.kl_reset)
        check_number("kl_threshold", self.kl_threshold, low=0.0)
        check_number("kl_min_interval", self.kl_min_interval, low=0, integer=True)
        if self.kl_reset:
            self._check_reset_fits("kl_min_interval")
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


class K24QMixTorchPolicy(MaskedQMixTorchPolicy):
    """QMIX's policy with the pattern-orthogonality loss (method, module C), and masks that freeze for finetuning.

    Attributes:
        policy_change: How far the team's behaviour moved between the last two updates.
        last_draws: What the last update drew for each masked layer; None before the first.
    """

    def __init__(self, observation_space: Any, action_space: Any, config: dict[str, Any]) -> None:
        super().__init__(observation_space, action_space, config)
        self.policy_change = PolicyChange()
        self.last_draws: list[PatternDraw | None] | None = None
        self._mask_flips = MaskFlipTracker()

    def masked_layers(self) -> list[SemiStructuredLinear]:
        """Returns the learner's masked layers, from input to output."""
        return self.model.agent.layers_of(SemiStructuredLinear)

    def steps_to_learn(self) -> float:
        """Returns the environment steps for which masks can still change: until finetuning, or the run's end."""
        if self.masks_frozen():
            return 0.0
        return mask_learning_share(self.config["finetune_at"]) * float(self.total_env_steps()) - self.global_timestep

    # --- what callbacks do to it

    def masks_frozen(self) -> bool:
        """Returns whether masks no longer change."""
        return any(layer.frozen for layer in self.masked_layers())

    def freeze_masks(self) -> None:
        """Fixes all masks for good at their most likely patterns, in the target network too.

        The target takes over all that decides masks (it would otherwise follow softly, and `alpha` would go on moving
        there), but keeps its own weights and biases.
        """
        targets = self.target_model.agent.layers_of(SemiStructuredLinear)
        for online, target in zip(self.masked_layers(), targets, strict=True):
            online.freeze_masks()
            own = {"weight": target.weight, "bias": target.bias}
            target.load_state_dict({**online.state_dict(), **own})

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
        """Returns the weighted diversity loss and its parts, and keeps what was drawn, for the metrics."""
        made = zip(self.model.agent.layers(), weights.layers, strict=True)
        records = [its for layer, its in made if isinstance(layer, SemiStructuredLinear)]
        self.last_draws = [its.draw if isinstance(its, PatternWeights) else None for its in records]
        return super().auxiliary_loss(loss_td, weights)

    def diversity_loss(self, weights: AgentWeights) -> Tensor | None:
        """Returns the loss named by `diversity`; frozen masks have none."""
        if self.masks_frozen():
            return None
        name, layers, joint = self.config["diversity"], self.masked_layers(), self.model.agent.joint
        if isinstance(joint, JointPatterns) and weights.probs is not None:
            return joint.diversity(name, layers, weights.probs)
        return diversity_loss(name, layers)

    def method_metrics(self) -> dict[str, Tensor | float]:
        """Returns the metrics of masks and events as they stand; changes are those since the last call."""
        layers = self.masked_layers()
        return {
            **super().method_metrics(),
            **pattern_metrics(layers, self.last_draws),
            "mask_flip_rate": self._mask_flips.update(layers),
            "kl_div": self.policy_change.divergence(),
            "finetune_mode": int(self.record.finetuning),
        }

    # --- state

    def get_state(self) -> dict[str, Any]:
        """Returns all that the method remembers, with QMIX's state."""
        return {
            **super().get_state(),
            "policy_change": self.policy_change.get_state(),
            "mask_flips": convert_to_numpy(self._mask_flips.get_state()),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        super().set_state(state)
        self._check_phase()
        self.policy_change.set_state(state["policy_change"], self.device)
        self._mask_flips.set_state(convert_to_torch_tensor(state["mask_flips"], device=self.device))

    def _check_phase(self) -> None:
        """Checks that a restored run is not before a phase that it has gone through: frozen masks stay frozen."""
        if not self.record.finetuning:
            return
        start, progress = self.config["finetune_at"], self.progress()
        if start is None or progress < start:
            raise ConfigError(
                f"finetune_at: got {start} with a checkpoint of a run that is finetuning and stands at progress "
                f"{progress:.2f} of this one, expected at most that: frozen masks do not learn again"
            )
        if self.config["rewind_to"] is not None and not self.record.rewound:
            raise ConfigError(
                f"rewind_to: got {self.config['rewind_to']} with a checkpoint of a run that is finetuning without, "
                "expected null: it has not kept the weights of then"
            )


class K24QMix(MaskedQMix):
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
