"""Resets: a part of what masks have learned is forgotten, so that dead weights get another chance."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.callbacks import DefaultCallbacks


class PeriodicResetCallback(DefaultCallbacks):
    """Resets masks at every multiple of `reset_interval` environment steps (method: training dynamics).

    Not when fewer steps than that remain before finetuning, or before the run's end where there is none: what was
    redrawn needs that time to be learned again.
    """

    def on_learn_on_batch(self, *, policy: Any, train_batch: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Resets before the first update at or after each multiple."""
        interval = policy.config["reset_interval"]
        if not interval or steps_to_learn(policy) < interval:
            return
        if policy.global_timestep // interval > policy.record.last_reset_step // interval:
            reset_masks(policy)


class AdaptiveResetCallback(DefaultCallbacks):
    """Resets masks when the team's behaviour jumps, where `kl_reset` is on (method: training dynamics).

    That is when the KL divergence between the mean softmax policies of the last two learner batches exceeds
    `kl_threshold` and `kl_min_interval` environment steps have passed since the last reset, of either kind. As a
    periodic reset, it leaves the masks as many steps before finetuning.
    """

    def on_learn_on_batch(self, *, policy: Any, train_batch: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Resets before this update if the two updates before it differ too much."""
        config, pause = policy.config, policy.config["kl_min_interval"]
        if not config["kl_reset"] or policy.global_timestep - policy.record.last_reset_step < pause:
            return
        if steps_to_learn(policy) >= pause and float(policy.policy_change.divergence()) > config["kl_threshold"]:
            reset_masks(policy)


def steps_to_learn(policy: Any) -> float:
    """Returns the environment steps for which masks can still change: until finetuning, or the run's end."""
    if policy.masks_frozen():
        return 0.0
    share = 1.0 if policy.config["finetune_at"] is None else policy.config["finetune_at"]
    return share * float(policy.total_env_steps()) - policy.global_timestep


def reset_masks(policy: Any) -> None:
    """Redraws a part of `alpha` in every masked layer but the first, moves `E` towards its mean, and takes note."""
    config = policy.config
    for layer in policy.masked_layers()[1:]:
        redrawn = layer.reset_alpha(config["reset_fraction"], config["revive"])
        policy.forget_moments(layer.hetero_alpha, redrawn)
        layer.soft_reset_ema(config["ema_reset_step"])
    policy.record.last_reset_step = policy.global_timestep
    policy.record.resets_total += 1
