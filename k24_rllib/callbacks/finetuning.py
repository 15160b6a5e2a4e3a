"""Finetuning: in the last part of a run masks stand still and the weights settle, if wanted from an earlier point."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.callbacks import DefaultCallbacks

from k24_rllib.callbacks.learner import PatternLearner


class FinetuneCallback(DefaultCallbacks):
    """Freezes masks at their most likely patterns from progress `finetune_at` on (method: training dynamics).

    With them `alpha` and `E` stop, in the target network too; there are no more resets and there is no diversity loss.
    The learning rate is `finetune_lr_factor` times what its schedule says.
    """

    def on_learn_on_batch(
        self, *, policy: PatternLearner, train_batch: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Begins finetuning before the first update that is late enough; lowers the learning rate of every later one.

        RLlib sets the scheduled rate anew now and then, so it is lowered each time.
        """
        start = policy.config["finetune_at"]
        if not policy.record.finetuning and start is not None and policy.progress() >= start:
            policy.freeze_masks()
            policy.record.finetuning = True
        if policy.record.finetuning:
            policy.set_learning_rate(policy.cur_lr * policy.config["finetune_lr_factor"])


class RewindCallback(DefaultCallbacks):
    """Takes finetuning back to early weights: lottery-ticket rewinding (arXiv 1903.01611), where `rewind_to` is set.

    At progress `rewind_to` (or later, where a run is restored later) it copies `W` of each masked layer. When
    finetuning begins it puts them back and clears their optimizer moments, so that weights are learned again under the
    final masks. Biases, the recurrent cell, the mixer and the target network stay as they are.
    """

    def on_learn_on_batch(
        self, *, policy: PatternLearner, train_batch: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Takes the snapshot, or puts it back, before the first update that is late enough."""
        start, record = policy.config["rewind_to"], policy.record
        if start is None or record.rewound:
            return
        weights = [layer.weight for layer in policy.masked_layers()]
        if record.snapshot is None and policy.progress() >= start:
            # Where finetuning begins with the first update since then, these are the weights of then.
            record.snapshot = [weight.detach().cpu().numpy().copy() for weight in weights]
        if record.finetuning and record.snapshot is not None:
            self.restore(policy, weights, record.snapshot)
            record.snapshot, record.rewound = None, True

    @torch.no_grad()
    def restore(
        self, policy: PatternLearner, weights: list[torch.nn.Parameter], snapshot: list[np.ndarray[Any, Any]]
    ) -> None:
        """Puts the snapshot back into `weights`, `[J, I]` each; override it to rewind something else, too."""
        for weight, early in zip(weights, snapshot, strict=True):
            weight.copy_(torch.from_numpy(early))
            policy.forget_moments(weight)
