"""Kaleidoscope's reset: connections that every owner has pruned come back to life."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.callbacks import DefaultCallbacks
from torch import Tensor


class KaleidoscopeResetCallback(DefaultCallbacks):
    """At every multiple of `reset_interval` environment steps, revives part of what all owners have pruned.

    Connections get new thresholds and a new weight (arXiv 2410.08540, resetting mechanism), and their optimizer
    moments, which describe what is gone, are cleared. As in the paper's code the first layer, which sees the
    observation, is left as it is, and no reset comes when fewer than `reset_interval` steps remain of the run.

    When it last acted is part of the policy's state, so a run that goes on from a checkpoint resets where the
    uninterrupted one would, and draws the same. The target network follows as it follows every other change.
    """

    def on_learn_on_batch(self, *, policy: Any, train_batch: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Resets before the update that is about to be made, if it is time, and reports what was done so far."""
        if self.due(policy):
            generator = policy.reset_generator()
            for layer in policy.masked_layers()[1:]:
                self.reset(policy, layer, generator)
            policy.last_reset_step = policy.global_timestep
            policy.resets_total += 1
        result["resets_total"] = policy.resets_total
        result["revived_total"] = policy.revived_total

    def due(self, policy: Any) -> bool:
        """Returns whether it is time; override it for a schedule of your own."""
        interval, now = policy.config["reset_interval"], policy.global_timestep
        if not interval or policy.total_env_steps() - now < interval:
            return False
        return bool(now // interval > policy.last_reset_step // interval)

    def reset(self, policy: Any, layer: Any, generator: torch.Generator | None) -> None:
        """Revives a part of one layer's dead connections."""
        (optimizer,) = policy._optimizers
        revived = layer.reset(policy.config["reset_fraction"], generator)
        clear_moments(optimizer, layer.weight, revived)
        clear_moments(optimizer, layer.thresholds, revived.expand_as(layer.thresholds))
        policy.revived_total += int(revived.sum())


@torch.no_grad()
def clear_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, entries: Tensor) -> None:
    """Sets what an optimizer remembers of some entries of a parameter to 0, where it remembers anything.

    Args:
        optimizer: One that keeps moments of the parameter's shape, as Adam does.
        parameter: The parameter.
        entries: Which of its entries, bool of its shape.
    """
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(entries, 0.0)
