"""K-2:4 QMIX: QMIX whose agents share weights but keep, each, a learned 2 of every 4."""

from __future__ import annotations

from typing import Any, Self

import torch
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor

from k24_rllib.algorithms.k24_settings import K24Settings
from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy
from k24_rllib.algorithms.policy_change import PolicyChange
from k24_rllib.callbacks import (
    AdaptiveResetCallback,
    FinetuneCallback,
    PeriodicResetCallback,
    RewindCallback,
    TemperatureCallback,
)
from k24_rllib.checks import ConfigError
from k24_rllib.models import AgentWeights
from k24_rllib.monitoring import Figure
from k24_rllib.qmix import ALGORITHMS
from k24_rllib.qmix.batch import TrainBatch
from k24_rllib.qmix.figures import LEARNER
from k24_rllib.settings import fluent
from k24_rllib.sparsity import (
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


class K24QMixConfig(K24Settings, MaskedQMixConfig):
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

    @property
    def own_layer(self) -> str:  # type: ignore[override]
        """The n:m layer of the pattern."""
        return self.pattern

    @fluent
    def k24(self, **settings: Any) -> Self:
        """Sets how masks are learned."""
        self.set(**settings)
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
        check_estimator(self.estimator, self.sampling)
        if self.ema_per_owner and self.shared_mask:
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

    def _check_resets(self) -> None:
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
        start, rewind_to = self.finetune_at, self.rewind_to
        if start is not None and start < self.temperature_end and self.masks == "learned":
            raise ConfigError(
                f"finetune_at: got {start} with temperature_end {self.temperature_end}, expected at least as much: "
                "masks freeze once their temperature has fallen"
            )
        if rewind_to is not None and (start is None or rewind_to >= start):
            raise ConfigError(
                f"rewind_to: got {rewind_to} with finetune_at {start}, expected less: finetuning goes back to it"
            )


class K24QMixTorchPolicy(MaskedQMixTorchPolicy):
    """QMIX's policy with the pattern-orthogonality loss (method, module C), and masks that freeze for finetuning.

    Attributes:
        policy_change: How far the team's behaviour moved between the last two updates.
        last_draws: What the last update drew for each masked layer; None before the first.
    """

    layer_type = SemiStructuredLinear

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
            own = dict(target.named_parameters())
            own.pop("hetero_alpha")
            target.load_state_dict({**online.state_dict(), **own})

    # --- learning

    def optimizer(self) -> list[torch.optim.Optimizer]:
        """Returns Adam, with a group of its own for `alpha` where that learns at another rate."""
        (adam,) = super().optimizer()
        factor = self.config["alpha_lr_factor"]
        if factor == 1.0:
            return [adam]
        alphas = {layer.hetero_alpha for layer in self.masked_layers()}
        group, defaults = adam.param_groups[0], {"lr": self.cur_lr * factor, "lr_factor": factor}
        learned = [parameter for parameter in group["params"] if parameter in alphas]
        group["params"] = [parameter for parameter in group["params"] if parameter not in alphas]
        adam.add_param_group({"params": learned, **defaults})
        return [adam]

    def target_weights(self, online: AgentWeights) -> AgentWeights:
        """Returns the target network's weights for one update, with the masks that `target_masks` names."""
        agent, masks = self.target_model.agent, self.config["target_masks"]
        if masks != "online" or self.masks_frozen():
            return agent.weights(explore=masks == "own")
        pairs = zip(agent.layers(), online.layers, strict=True)
        return AgentWeights(
            [
                layer.masked_as(its)
                if isinstance(layer, SemiStructuredLinear) and isinstance(its, PatternWeights)
                else layer.make_weights(explore=False)
                for layer, its in pairs
            ]
        )

    def online_values(self, batch: TrainBatch, weights: AgentWeights) -> Tensor:
        """Returns the online network's action values `[T+1, B, N, U]`, and remembers them for `kl_div`."""
        q = super().online_values(batch, weights)
        self.policy_change.see(q[:-1], batch.available[:-1], batch.valid)
        return q

    def forget_batch(self) -> None:
        """Forgets a batch whose update was skipped: behaviour did not change by it."""
        self.policy_change.forget()

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

    def _use_own_optimizer_settings(self) -> None:
        """Gives the optimizer this policy's settings, `alpha`'s share of the learning rate among them."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups[1:]:
                group["lr_factor"] = self.config["alpha_lr_factor"]
        super()._use_own_optimizer_settings()

    def get_state(self) -> dict[str, Any]:
        """Returns all that the method remembers, with QMIX's state."""
        return {
            **super().get_state(),
            "policy_change": self.policy_change.get_state(),
            "last_draws": _plain_draws(self.last_draws),
            "mask_flips": convert_to_numpy(self._mask_flips.get_state()),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned.

        Raises:
            ConfigError: for a state of a run in which `alpha` had no rate of its own and here has one, or the reverse.
        """
        for saved, optimizer in zip(state.get("_optimizer_variables", ()), self._optimizers, strict=False):
            if len(saved["param_groups"]) != len(optimizer.param_groups):
                raise ConfigError(
                    f"alpha_lr_factor: got {self.config['alpha_lr_factor']} with a checkpoint of a run in which it was "
                    f"{'not ' if len(optimizer.param_groups) == 1 else ''}1.0, expected the same"
                )
        super().set_state(state)
        self._check_phase()
        if self.record.finetuning:  # as the callback has it from the next update on
            self.set_learning_rate(self.cur_lr * self.config["finetune_lr_factor"])
        self.policy_change.set_state(state["policy_change"], self.device)
        self.last_draws = _draws_from(state.get("last_draws"), self.device)
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


def _plain_draws(draws: list[PatternDraw | None] | None) -> list[tuple[Any, Any] | None] | None:
    """Returns what the metrics ask of draws, as arrays: they are shown until the next update, also after a resume."""
    if draws is None:
        return None
    return [None if draw is None else convert_to_numpy((draw.likelihood, draw.drawn)) for draw in draws]


def _draws_from(plain: list[tuple[Any, Any] | None] | None, device: torch.device) -> list[PatternDraw | None] | None:
    """Returns draws of what `_plain_draws` returned; their masks are of no use any more, and empty."""
    if plain is None:
        return None
    draws: list[PatternDraw | None] = []
    for arrays in plain:
        if arrays is None:
            draws.append(None)
            continue
        likelihood, drawn = convert_to_torch_tensor(arrays, device=device)
        draws.append(PatternDraw(likelihood, drawn, masks=torch.empty(0, device=device)))
    return draws


PATTERN_FIGURES = (
    Figure(
        "k24_temperature",
        "Temperature of the pattern distributions.",
        f"{LEARNER}/temperature",
        "Masks",
        "Temperature",
    ),
    Figure(
        "k24_pattern_entropy",
        "Entropy of the pattern distributions, in bits; a pattern that is certain has none.",
        f"{LEARNER}/pattern_entropy",
        "Masks",
        "Pattern entropy",
    ),
    Figure(
        "k24_pattern_similarity",
        "How likely two agents draw the same pattern, mean over pairs of agents.",
        f"{LEARNER}/pattern_mean_similarity",
        "Masks",
        "Pattern similarity",
    ),
    Figure(
        "k24_mask_flip_rate",
        "Share of groups whose most likely pattern changed since the iteration before.",
        f"{LEARNER}/mask_flip_rate",
        "Masks",
        "Mask flips",
    ),
)
"""What agents that choose among patterns show while they train."""


class K24QMix(MaskedQMix):
    """QMIX whose agents share weights and keep, each, a learned 2 of every 4: the method in short is in the README."""

    config: K24QMixConfig
    config_class = K24QMixConfig
    policy_class = K24QMixTorchPolicy
    figures = (*MaskedQMix.figures, *PATTERN_FIGURES)


ALGORITHMS.register("K24QMix", K24QMix)
