"""Resets: a part of what masks have learned is forgotten, so that dead weights get another chance."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.callbacks import DefaultCallbacks

from k24_rllib.callbacks.learner import MaskLearner, PatternLearner
from k24_rllib.sparsity import MaskedLayer


class PeriodicResetCallback(DefaultCallbacks):
    """Resets masks at every multiple of `reset_interval` environment steps (method: training dynamics).

    Not when fewer steps than that remain before finetuning, or before the run's end where there is none: what was
    redrawn needs that time to be learned again.
    """

    def on_learn_on_batch(
        self, *, policy: PatternLearner, train_batch: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Resets before the first update at or after each multiple."""
        if periodic_reset_due(policy):
            reset_masks(policy)


class AdaptiveResetCallback(DefaultCallbacks):
    """Resets masks when the team's behaviour jumps, where `kl_reset` is on (method: training dynamics).

    That is when the KL divergence between the mean softmax policies of the last two learner batches exceeds
    `kl_threshold` and `kl_min_interval` environment steps have passed since the last reset, of either kind. As a
    periodic reset, it leaves the masks as many steps before finetuning.
    """

    def on_learn_on_batch(
        self, *, policy: PatternLearner, train_batch: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Resets before this update if the two updates before it differ too much."""
        config, pause = policy.config, policy.config["kl_min_interval"]
        if not config["kl_reset"] or policy.global_timestep - policy.record.last_reset_step < pause:
            return
        if policy.steps_to_learn() >= pause and float(policy.policy_change.divergence()) > config["kl_threshold"]:
            reset_masks(policy)


def periodic_reset_due(policy: MaskLearner[MaskedLayer]) -> bool:
    """Returns whether a multiple of `reset_interval` was passed since the last reset, and as many steps remain."""
    interval = policy.config["reset_interval"]
    if not interval or policy.steps_to_learn() < interval:
        return False
    return bool(policy.global_timestep // interval > policy.record.last_reset_step // interval)


def reset_masks(policy: PatternLearner) -> None:
    """Redraws a part of `alpha` in every masked layer but the first, moves `E` towards its mean, and takes note."""
    config = policy.config
    for layer in policy.masked_layers()[1:]:
        redrawn = layer.reset_alpha(config["reset_fraction"], config["revive"])
        policy.forget_moments(layer.hetero_alpha, redrawn)
        layer.soft_reset_ema(config["ema_reset_step"])
    policy.record.note_reset(policy.global_timestep)
