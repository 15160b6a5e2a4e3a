"""Module B of K-2:4: the legal N:M patterns of a group of weights, their logits and how one is drawn.

Shapes: `...` any leading dimensions (`[A, J, G]` in a layer), `P` patterns (6 for 2:4), `m` weights of a group.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from k24_rllib.checks import check_choice, check_number

SAMPLING = ("tempered", "gumbel")
VARIANCE_EPS = 1e-10
"""Added to the variance of logits whose largest magnitude is 1: scores closer than about 1e-5 of it count as equal."""
SMALLEST_SCALE = 1e-30
"""Logits below this count as zero. Far above float32's smallest number, so that no gradient overflows."""
SMALLEST_UNIFORM = 1e-10
"""Least uniform number taken for noise: a Gumbel noise of -3.1."""


def nm_patterns(n: int = 2, m: int = 4) -> Tensor:
    """Returns the patterns that keep `n` of `m` weights, `M [P, m]` of 0 and 1, in descending lexicographic order.

    For 2:4 these are 1100, 1010, 1001, 0110, 0101, 0011 (MaskLLM, NeurIPS 2024, section 3.1).

    Raises:
        ConfigError: unless `1 <= n <= m`.
    """
    check_number("m", m, low=1, integer=True)
    check_number("n", n, low=1, high=m, integer=True)
    patterns = torch.zeros(len(kept := list(combinations(range(m), n))), m)
    return patterns.scatter_(1, torch.tensor(kept), 1.0)


def normalize_logits(logits: Tensor, legal: Tensor | None = None, dim: int = -1) -> Tensor:
    """Scales the logits of each group to zero mean and unit variance, whatever their magnitude.

    Groups whose logits are all equal, or all zero, become zeros: the uniform distribution.

    Args:
        logits: `[..., P]`; values of patterns that are not legal are ignored.
        legal: `[..., P]` bool, broadcastable; patterns that may be drawn, at least one in each group. None means all.
        dim: Where the `P` patterns lie. CPU kernels are several times faster with patterns first than last.

    Returns:
        Shaped as `logits`, with `-inf` where a pattern is not legal.
    """
    count: int | Tensor = logits.shape[dim]
    if legal is not None:
        logits = logits.masked_fill(~legal, 0.0)
        count = legal.sum(dim, keepdim=True)
    # An epsilon only makes sense at a known magnitude, so the group is brought to one first. Normalisation does not
    # depend on this factor, so neither does its gradient, and the factor can be detached.
    scale = logits.detach().abs().amax(dim, keepdim=True).clamp_min_(SMALLEST_SCALE)
    scaled = logits / scale
    centred = scaled - scaled.sum(dim, keepdim=True) / count
    if legal is not None:
        centred = centred.masked_fill(~legal, 0.0)
    variance = centred.square().sum(dim, keepdim=True) / count
    normal = centred * (variance + VARIANCE_EPS).rsqrt()
    return normal if legal is None else normal.masked_fill(~legal, -torch.inf)


def sample_patterns(
    logits: Tensor,
    temperature: Tensor | float,
    sampling: str = "tempered",
    generator: torch.Generator | None = None,
    dim: int = -1,
    probs: Tensor | None = None,
) -> Tensor:
    """Draws one pattern per group: one-hot forward, the relaxed distribution backward (straight-through).

    Args:
        logits: `[..., P]`, normalised, `-inf` where a pattern may not be drawn.
        temperature: `tau`, above 0. With `tempered` a low one makes draws greedy; with `gumbel` it leaves the draws
            alone and only sharpens their gradient.
        sampling: `tempered` draws from `pi = softmax(logits / tau)`; `gumbel` is the textbook hard Gumbel-softmax
            (arXiv 1611.01144, section 2.2), whose draws do not depend on `tau`.
        generator: Source of noise; None means torch's own.
        dim: Where the `P` patterns lie.
        probs: `pi = softmax(logits / tau)`, if the caller has it already; only `tempered` needs it.

    Returns:
        Shaped as `logits`, exactly one-hot.
    """
    check_choice("sampling", sampling, SAMPLING)
    # e = -log(u) ~ Exp(1) and g = -log(e) ~ Gumbel(0, 1). `Tensor.exponential_` takes four times as long on a CPU. The
    # clamp keeps g finite: the generator does return an exact 0 now and then.
    exponential = torch.empty_like(logits, requires_grad=False).uniform_(generator=generator)
    exponential.clamp_min_(SMALLEST_UNIFORM).log_().neg_()
    if sampling == "tempered":
        # A pattern is an exact draw from pi, so the expected value of whatever is linear in the pattern is its value at
        # pi, and pi itself is the relaxed pattern. A softmax with this draw's noise would relax one outcome instead of
        # the distribution, which adds variance to the gradient and nothing else.
        relaxed = F.softmax(logits / temperature, dim=dim) if probs is None else probs
        # argmax(pi / e) is argmax(logits / tau + g): the logarithm keeps the order.
        drawn = exponential.reciprocal_().mul_(relaxed.detach()).max(dim, keepdim=True).indices
    else:
        # y = softmax((logits + g) / tau), eq. 2 of 1611.01144: the draw is the limit of this noisy softmax, so that is
        # what the gradient goes through.
        noisy = logits - exponential.log_()
        relaxed = F.softmax(noisy / temperature, dim=dim)
        drawn = noisy.detach().max(dim, keepdim=True).indices
    one_hot = torch.zeros_like(exponential).scatter_(dim, drawn, 1.0)
    hard: Tensor = _StraightThrough.apply(relaxed, one_hot)
    return hard


class _StraightThrough(torch.autograd.Function):
    """Gives `hard` forward and hands the gradient to `relaxed`: fewer kernels than `hard + relaxed - relaxed.detach()`,
    and exact."""

    @staticmethod
    def forward(ctx: Any, relaxed: Tensor, hard: Tensor) -> Tensor:
        return hard

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
