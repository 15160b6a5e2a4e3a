"""The compiled 2:4 patterns of a layer, `patterns.c`.

Shapes as there: `R` masks, `J`/`I` out/in features, `K` groups of one mask in all layers together.
"""

from __future__ import annotations

from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor

from k24_rllib.kernels.library import call


@dataclass(frozen=True, slots=True)
class Draw:
    """What the draws of all layers leave, each layer writing its part.

    Attributes:
        probs: `pi [6, R, K]`.
        drawn: Index of each pattern drawn, `[R, K]` int64.
        masks: `[R, K, 4]` of 0 and 1.
        uniform: The numbers drawn with, `[R, K]`.
        normal: Normalised scores, `[4, R, K]`.
        factor: What scaled them, `[R, K]`.
    """

    probs: Tensor
    drawn: Tensor
    masks: Tensor
    uniform: Tensor
    normal: Tensor
    factor: Tensor

    @classmethod
    def empty(cls, uniform: Tensor) -> Draw:
        """Returns room for a draw with `uniform [R, K]` numbers."""
        return cls(
            probs=uniform.new_empty(6, *uniform.shape),
            drawn=torch.empty(uniform.shape, dtype=torch.int64),
            masks=uniform.new_empty(*uniform.shape, 4),
            uniform=uniform,
            normal=uniform.new_empty(4, *uniform.shape),
            factor=uniform.new_empty(uniform.shape),
        )


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """A layer as the kernels see it: `W [J, I]`, `E [I]` or `[R, I]`, `alpha [R, J, I]`, `tau` and its first group.

    `kind` is the place of its scores in `sparsity.scores.SCORES`.
    """

    weight: Tensor
    ema: Tensor
    alpha: Tensor
    temperature: Tensor
    first_group: int
    kind: int

    def sizes(self) -> tuple[int, int, int, int, int]:
        """Returns `R`, `J`, `I`, whether `E` is kept per mask, and the kind of scores."""
        masks, out_features, in_features = self.alpha.shape
        return masks, out_features, in_features, int(self.ema.dim() == 2), self.kind


def most_likely(kernels: CDLL, layer: LayerTensors) -> Tensor:
    """Returns the weights of each mask's most likely patterns, `[R, J, I]`."""
    weights = layer.alpha.new_empty(layer.alpha.shape)  # in one piece, which `empty_like` need not be
    call(kernels, "patterns_most_likely", layer.sizes(), layer.weight, layer.ema, layer.alpha, weights)
    return weights


def draw(kernels: CDLL, layer: LayerTensors, into: Draw) -> Tensor:
    """Draws a layer's patterns; returns the weights `[R, J, I]` and writes all else to its part of `into`."""
    weights, start = layer.alpha.new_empty(layer.alpha.shape), layer.first_group
    call(
        kernels,
        "patterns_draw",
        (*layer.sizes(), into.uniform.shape[1]),
        *(layer.weight, layer.ema, layer.alpha, layer.temperature, into.uniform, into.probs, into.drawn, into.masks),
        *(weights, into.normal, into.factor),
        offsets=(0, 0, 0, 0, start, start, start, 4 * start, 0, start, start),
    )
    return weights


def draw_backward(
    kernels: CDLL, layer: LayerTensors, drew: Draw, grad_weights: Tensor, grad_probs: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns the gradients by `W [J, I]` and `alpha [R, J, I]`.

    Args:
        kernels: What `library` returned.
        layer: What `draw` was given.
        drew: What `draw` wrote to.
        grad_weights: `[R, J, I]`.
        grad_probs: `[6, R, K]`, of all layers, or None for none.
    """
    grad_weight, grad_alpha = torch.zeros(layer.weight.shape), torch.empty(layer.alpha.shape)
    start = layer.first_group
    call(
        kernels,
        "patterns_draw_backward",
        (*layer.sizes(), drew.uniform.shape[1]),
        *(layer.weight, layer.ema, layer.alpha, layer.temperature, drew.probs, drew.masks, drew.normal, drew.factor),
        *(grad_weights, grad_probs, grad_alpha, grad_weight),
        offsets=(0, 0, 0, 0, start, 4 * start, start, start, 0, start),
    )
    return grad_weight, grad_alpha


def input_scale(
    kernels: CDLL, x: Tensor, real: Tensor, momentum: Tensor, before: Tensor, initialised: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the next moving average `E [I]` and whether it is initialised; see `EMAActivationTracker.update`.

    Args:
        kernels: What `library` returned.
        x: `[N, rows, I]`; agents may lie apart in memory.
        real: `[N, rows]` of 1 and 0.
        momentum: A number.
        before: `E` as it is.
        initialised: Whether it is, a bool.
    """
    after, initialised_after = (its.new_empty(its.shape) for its in (before, initialised))
    agents, rows, size = x.shape
    if x.stride()[1:] != (size, 1):
        x = x.contiguous()
    first = x.as_strided((1,), (1,))  # only where it begins: the kernel knows the rest
    sizes = (agents, rows, x.stride(0), size)
    call(kernels, "input_scale", sizes, first, real, momentum, before, initialised, after, initialised_after)
    return after, initialised_after
