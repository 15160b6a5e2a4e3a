"""Module A of K-2:4: heterogeneous scores, which say how much each mask owner needs each shared weight.

Shapes: `A` mask owners, `I`/`J` in/out features, `...` rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from k24_rllib import kernels
from k24_rllib.checks import check_number

SCORES = ("magnitude", "alpha", "logits")
"""What a weight's score is: `|W| E sigmoid(alpha)` (the method's), `sigmoid(alpha)` alone, or `alpha` itself, taken as
a logit as it is: the others are normalised in each group."""


class EMAActivationTracker(nn.Module):
    """The moving average `E` of a layer's mean absolute input (method step A).

    Only the learner's pass of the online network should update it, over real steps.

    Args:
        num_features: `I`.
        momentum: Share of the old value that an update keeps; higher is smoother and slower.
        num_owners: Keeps an average per owner, of this many; None keeps one for all.
        compiled: Whether a compiled kernel may sum; see `k24_rllib.kernels`.

    Attributes:
        value: `E`, `[I]` or `[A, I]`; 1 before the first update.
    """

    value: Tensor
    initialised: Tensor

    def __init__(
        self, num_features: int, momentum: float = 0.99, num_owners: int | None = None, compiled: bool = True
    ) -> None:
        super().__init__()
        check_number("ema_momentum", momentum, low=0.0, high=1.0)
        self._compiled = compiled
        self.momentum = momentum
        self.num_owners = num_owners
        kept_apart = () if num_owners is None else (num_owners,)
        self.register_buffer("value", torch.ones(*kept_apart, num_features))
        self.register_buffer("initialised", torch.zeros(kept_apart, dtype=torch.bool))

    @torch.no_grad()
    def update(self, x: Tensor, valid: Tensor | None = None) -> None:
        """Moves the average towards the mean absolute value of `x`; the first update sets it.

        Args:
            x: Inputs of the layer, finite in every row, `[..., I]`; `[A, ..., I]` for an average per owner.
            valid: Broadcastable to `x.shape[:-1]`, true (or 1) where a row is real, false (or 0) where it is
                padding. Where no row is real nothing changes. None means that all are.

        Raises:
            ValueError: if averages are per owner and `x` does not have as many.
        """
        if x.numel() == 0:
            return
        real = x.new_ones(()) if valid is None else valid.to(x.dtype)
        real = real.expand(x.shape[:-1])
        fits = self.num_owners is None and x.dim() == 3 and kernels.on_cpu(x)
        library = kernels.library() if self._compiled and fits else None
        if library is not None:
            self.value, self.initialised = kernels.patterns.input_scale(
                library, x, real, self.value.new_tensor(self.momentum), self.value, self.initialised
            )
            return
        with torch.autocast(x.device.type, enabled=False):  # sums over thousands of rows, which bfloat16 cannot hold
            self._update(x.to(self.value.dtype), real.to(self.value.dtype))

    def _update(self, x: Tensor, real: Tensor) -> None:
        if self.num_owners is None:
            real = real.reshape(-1)  # [rows]
            total, count = real @ x.abs().reshape(-1, x.shape[-1]), real.sum()
        else:
            total, count = self._totals_per_owner(x.abs(), real)
        mean = total / count.clamp_min(1.0).unsqueeze(-1)
        # Without real rows the step is 0, and the first is 1. An `if` on a tensor would make a GPU wait.
        step = torch.where(self.initialised, 1.0 - self.momentum, 1.0) * (count > 0)
        # Not in place: the weights of this very pass were made from the old value, and their backward still needs it.
        self.value = self.value.lerp(mean, step.to(mean.dtype).unsqueeze(-1))
        self.initialised = self.initialised | (count > 0)

    def _totals_per_owner(self, magnitude: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Returns each owner's sum `[A, I]` over real rows of `magnitude [A, ..., I]`, and their number `[A]`."""
        if len(magnitude) != self.num_owners:
            raise ValueError(f"x: got the rows of {len(magnitude)} mask owners, expected those of {self.num_owners}")
        rows, weights = magnitude.flatten(1, -2), real.flatten(1)  # [A, rows, I], [A, rows]
        return (weights.unsqueeze(1) @ rows).squeeze(1), weights.sum(1)

    def soft_reset(self, step: float = 0.1) -> None:
        """Moves `E` this share of the way to its mean over features, so that scores differ less by input scale."""
        self.value = self.value.lerp(self.value.mean(-1, keepdim=True).expand_as(self.value), step)


def hetero_scores(weight: Tensor, ema: Tensor, alpha: Tensor) -> Tensor:
    """Returns the scores `S[a] = |W| * E * sigmoid(alpha[a])` (method step A).

    Args:
        weight: `W [J, I]`, shared.
        ema: `E`, `[I]` or `[A, I]`.
        alpha: `[A, J, I]`, what each owner learned.

    Returns:
        `[A, J, I]`, not negative.
    """
    return (weight.abs() * ema.unsqueeze(-2)) * alpha.sigmoid()
