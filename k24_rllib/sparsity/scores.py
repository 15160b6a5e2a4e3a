"""Module A of K-2:4: heterogeneous scores, which say how much each mask owner needs each shared weight.

Shapes: `A` mask owners, `I`/`J` in/out features, `...` rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from k24_rllib.checks import check_number


class EMAActivationTracker(nn.Module):
    """The moving average `E [I]` of a layer's mean absolute input (method step A).

    Only the learner's pass of the online network should update it, over real steps.

    Args:
        num_features: `I`.
        momentum: Share of the old value that an update keeps; higher is smoother and slower.

    Attributes:
        value: `E [I]`, 1 before the first update.
        frozen: Set it to stop updates for good (finetuning). Not part of the state dict.
    """

    value: Tensor
    initialised: Tensor

    def __init__(self, num_features: int, momentum: float = 0.99) -> None:
        super().__init__()
        check_number("ema_momentum", momentum, low=0.0, high=1.0)
        self.momentum = momentum
        self.frozen = False
        self.register_buffer("value", torch.ones(num_features))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def update(self, x: Tensor, valid: Tensor | None = None) -> None:
        """Moves the average towards the mean absolute value of `x [..., I]`; the first update sets it.

        Args:
            x: Inputs of the layer, finite in every row.
            valid: Broadcastable to `x.shape[:-1]`, true (or 1) where a row is real, false (or 0) where it is
                padding. Where no row is real nothing changes. None means that all are.
        """
        if self.frozen or x.numel() == 0:
            return
        magnitude = x.abs().reshape(-1, x.shape[-1])  # [rows, I]
        real = x.new_ones(()) if valid is None else valid.to(x.dtype)
        real = real.expand(x.shape[:-1]).reshape(-1)  # [rows]
        count = real.sum()
        mean = (real @ magnitude) / count.clamp_min(1.0)
        # Without real rows the step is 0, and the first is 1. An `if` on a tensor would make a GPU wait.
        step = torch.where(self.initialised, 1.0 - self.momentum, 1.0) * (count > 0)
        # Not in place: the weights of this very pass were made from the old value, and their backward still needs it.
        self.value = self.value.lerp(mean, step.to(mean.dtype))
        self.initialised = self.initialised | (count > 0)


def hetero_scores(weight: Tensor, ema: Tensor, alpha: Tensor) -> Tensor:
    """Returns the scores `S[a] = |W| * E * sigmoid(alpha[a])` (method step A).

    Args:
        weight: `W [J, I]`, shared.
        ema: `E [I]`.
        alpha: `[A, J, I]`, what each owner learned.

    Returns:
        `[A, J, I]`, not negative.
    """
    return (weight.abs() * ema) * alpha.sigmoid()
