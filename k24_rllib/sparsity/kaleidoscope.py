"""Kaleidoscope's layer (arXiv 2410.08540): learned thresholds per mask owner, the unstructured ancestor of K-2:4.

Shapes: `A` mask owners, `I`/`J` in/out features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from k24_rllib.checks import ConfigError, check_number
from k24_rllib.sparsity.layer import LAYERS, MaskedLayer
from k24_rllib.sparsity.memory import FLOAT_BYTES, Memory
from k24_rllib.sparsity.packed import KeptWeights

LAYER_WEIGHT_GROWTH = 2.0
"""Each layer counts this many times as much in the diversity loss as the one before it: 1, 2, 4, 8."""


class KaleidoscopeLinear(MaskedLayer):
    """A linear layer over shared weights from which each owner prunes what is below its own learned thresholds.

    `W_a = sign(W) * relu(|W| - sigmoid(s_a))` (2410.08540; soft threshold reparameterisation, 2002.03231).
    Thresholds start low, so nearly everything is kept at first; how much is pruned is learned, not given.

    Args:
        in_features: `I`.
        out_features: `J`.
        num_masks: `A`.
        bias: Whether to add a bias, shared by all owners.
        threshold_scale: `s` starts uniform over a range of this width; wider makes owners differ more at first.
        threshold_bias: The upper end of that range is minus this; lower prunes earlier (5: weights below 0.007).

    Attributes:
        weight: `W [J, I]`.
        thresholds: `s [A, J, I]`, before the sigmoid.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_masks: int,
        *,
        bias: bool = True,
        threshold_scale: float = 5.0,
        threshold_bias: float = 5.0,
    ) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.threshold_scale = check_number("threshold_scale", threshold_scale, low=0.0)
        self.threshold_bias = check_number("threshold_bias", threshold_bias)
        self.thresholds = nn.Parameter(self._new_thresholds())
        self.init_shared(fan_in=in_features)

    def weights(self, explore: bool) -> Tensor:
        """Returns every owner's weights `W_a`, `[A, J, I]`; nothing is drawn, so `explore` changes nothing."""
        weights: Tensor = _SoftThreshold.apply(self.weight, self.thresholds)
        return weights

    def masks(self) -> Tensor:
        """Returns every owner's mask, `[A, J, I]` of 0 and 1, with a straight-through gradient for the thresholds."""
        kept: Tensor = _Step.apply(self.weight.detach().abs() - self.thresholds.sigmoid())
        return kept

    @torch.no_grad()
    def memory(self) -> Memory:
        """Returns the memory that acting needs now: each owner's kept weights, as they differ in value, and masks."""
        kept, mask_bytes = int(self.masks().sum()), self.weight.numel() / 8
        numbers, owner_numbers = kept + self.num_biases, kept / self.num_masks + self.num_biases
        return Memory(
            numbers=numbers,
            size=FLOAT_BYTES * numbers + self.num_masks * mask_bytes,
            owner_numbers=owner_numbers,
            owner_size=FLOAT_BYTES * owner_numbers + mask_bytes,
        )

    @torch.no_grad()
    def kept(self) -> KeptWeights:
        """Returns each owner's weights, which differ in value where they are kept; see `MaskedLayer.kept`."""
        return KeptWeights(self.weights(explore=False), self.kept_bias(), pruned=True)

    @torch.no_grad()
    def reset(self, fraction: float, generator: torch.Generator | None = None) -> Tensor:
        """Revives connections that every owner has pruned, so that no capacity is lost for good (2410.08540).

        Each gets, with probability `fraction`, new thresholds and a new weight, drawn as at the start (a Kaiming
        uniform draw with slope sqrt(5), which is `nn.Linear`'s own).

        Args:
            fraction: Share of the dead connections that are revived, 0 to 1.
            generator: Source of randomness, on the layer's device; None means torch's own.

        Returns:
            `[J, I]` bool, the connections that were revived: their optimizer moments describe what is gone.
        """
        check_number("reset_fraction", fraction, low=0.0, high=1.0)
        dead = (self.masks() == 0).all(0)
        chance = torch.rand(self.weight.shape, generator=generator, device=self.weight.device)
        revived = dead & (chance < fraction)
        bound = self.in_features**-0.5
        weight = torch.empty_like(self.weight).uniform_(-bound, bound, generator=generator)
        self.weight.copy_(torch.where(revived, weight, self.weight))
        self.thresholds.copy_(torch.where(revived, self._new_thresholds(generator), self.thresholds))
        return revived

    def _new_thresholds(self, generator: torch.Generator | None = None) -> Tensor:
        """Draws thresholds `[A, J, I]`: `-(scale * u + bias)` with `u` uniform in [0, 1)."""
        shape = (self.num_masks, self.out_features, self.in_features)
        uniform = torch.rand(shape, generator=generator, device=self.weight.device)
        return -(uniform * self.threshold_scale + self.threshold_bias)


def kaleidoscope_diversity_loss(
    layers: Sequence[KaleidoscopeLinear], layer_weights: Sequence[float] | None = None
) -> Tensor:
    """Returns minus how much owners' masks differ, weighted by `|W|` (2410.08540, mask diversity).

    `-sum_l c_l sum_{a != b} sum_ij |W_ij| |mask_a,ij - mask_b,ij| / (A (A - 1) * number of weights of all layers)`.
    Lower is more diverse; 0 where all owners keep the same weights. Its gradient reaches thresholds alone.

    Args:
        layers: Layers of the same mask owners, from input to output.
        layer_weights: `c_l`, one per layer; None means 1, 2, 4, 8, ...: layers near the output count more.

    Returns:
        A scalar; 0 for a single owner.

    Raises:
        ConfigError: if there is no layer, or another number of layer weights.
    """
    if not layers:
        raise ConfigError("layers: got no layer, expected at least one")
    if layer_weights is None:
        layer_weights = [LAYER_WEIGHT_GROWTH**i for i in range(len(layers))]
    if len(layer_weights) != len(layers):
        raise ConfigError(f"layer_weights: got {len(layer_weights)}, expected one for each of {len(layers)} layers")
    owners = layers[0].num_masks
    parts = [c * _pair_differences(layer) for c, layer in zip(layer_weights, layers, strict=True)]
    return -torch.stack(parts).sum() / max(owners * (owners - 1), 1) / sum(layer.weight.numel() for layer in layers)


def _pair_differences(layer: KaleidoscopeLinear) -> Tensor:
    """Returns `sum_{a != b} sum_ij |W_ij| |mask_a,ij - mask_b,ij|` without a loop over pairs."""
    masks = layer.masks()
    # Masks are 0 or 1, so |x - y| = (x - y)^2 and sum_{a != b} (x_a - x_b)^2 = 2 (A sum x^2 - (sum x)^2). Its gradient,
    # 4 (A x_a - sum x), is twice that of the absolute values, 2 sum_b sign(x_a - x_b): hence half of it is detached.
    spread = layer.num_masks * masks.square().sum(0) - masks.sum(0).square()
    half = (layer.weight.detach().abs() * spread).sum()
    return half + half.detach()


class _SoftThreshold(torch.autograd.Function):
    """`sign(W) * relu(|W| - sigmoid(s))` with its exact gradient, in half the kernels that autograd would take."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, thresholds: Tensor) -> Tensor:
        cut = thresholds.sigmoid()
        pruned = (weight.abs() - cut).relu_().mul_(weight.sign())  # [A, J, I]
        ctx.save_for_backward(cut, pruned)
        return pruned

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        cut, pruned = ctx.saved_tensors
        # dW_a/dW = 1 and dW_a/ds_a = -sign(W) sigmoid'(s_a) where the weight is kept, 0 elsewhere; sign(W_a) is
        # sign(W) where it is kept, and 0 elsewhere.
        sign = pruned.sign()
        grad_thresholds = (cut - 1.0).mul_(cut).mul_(sign).mul_(grad)
        return (sign.abs_() * grad).sum(0), grad_thresholds


class _Step(torch.autograd.Function):
    """1 above 0, otherwise 0; backward, `tanh` of the incoming gradient, which keeps large ones bounded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.tanh()


LAYERS.register("kaleidoscope", KaleidoscopeLinear)
