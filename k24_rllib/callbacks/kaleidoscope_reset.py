"""Kaleidoscope's reset: connections that every owner has pruned come back to life."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.callbacks import DefaultCallbacks

from k24_rllib.callbacks.learner import ThresholdLearner
from k24_rllib.callbacks.resets import periodic_reset_due
from k24_rllib.sparsity import KaleidoscopeLinear


class KaleidoscopeResetCallback(DefaultCallbacks):
    """At every multiple of `reset_interval` environment steps, revives part of what all owners have pruned.

    Connections get new thresholds and a new weight (arXiv 2410.08540, resetting mechanism), and their optimizer
    moments, which describe what is gone, are cleared. As in the paper's code the first layer, which sees the
    observation, is left as it is, and no reset comes when fewer than `reset_interval` steps remain of the run.

    Runs that go on from a checkpoint reset where the uninterrupted one would, and draw the same. The target network
    follows as it follows every other change.
    """

    def on_learn_on_batch(
        self, *, policy: ThresholdLearner, train_batch: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Resets before the update that is about to be made, if it is time."""
        if self.due(policy):
            generator = policy.reset_generator()
            for layer in policy.masked_layers()[1:]:
                self.reset(policy, layer, generator)
            policy.record.note_reset(policy.global_timestep)

    def due(self, policy: ThresholdLearner) -> bool:
        """Returns whether it is time; override it for a schedule of your own."""
        return periodic_reset_due(policy)

    def reset(self, policy: ThresholdLearner, layer: KaleidoscopeLinear, generator: torch.Generator | None) -> None:
        """Revives a part of one layer's dead connections."""
        revived = layer.reset(policy.config["reset_fraction"], generator)
        policy.forget_moments(layer.weight, revived)
        policy.forget_moments(layer.thresholds, revived.expand_as(layer.thresholds))
        policy.record.revived_total += int(revived.sum())
