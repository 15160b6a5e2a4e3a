"""Module B of K-2:4: the legal N:M patterns of a group of weights, their logits and how one is drawn.

Shapes: `...` any leading dimensions (`[A, J, G]` in a layer), `P` patterns (6 for 2:4), `m` weights of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from k24_rllib.checks import ConfigError, check_choice, check_number
from k24_rllib.sparsity.layer import LayerWeights

NM_RATIOS = {"2:4": (2, 4), "1:4": (1, 4), "2:8": (2, 8), "4:8": (4, 8)}
"""The ratios with a name; sparse tensor cores know the first."""
SAMPLING = ("tempered", "gumbel")
ESTIMATORS = ("straight_through", "reinmax", "rao_blackwell")
VARIANCE_EPS = 1e-10
"""Added to the variance of logits whose largest magnitude is 1: scores closer than about 1e-5 of it count as equal."""
SMALLEST_SCALE = 1e-30
"""Logits below this count as zero. Far above float32's smallest number, so that no gradient overflows."""
SMALLEST_UNIFORM = 1e-10
"""Least uniform number taken for noise: a Gumbel noise of -3.1."""


@dataclass(frozen=True, slots=True)
class PatternDraw:
    """What was drawn for a layer's groups, without gradient: `R` masks, `K` groups of one mask (`J * G` in a layer)."""

    likelihood: Tensor  # [P, R, K], logits or probabilities of the patterns
    drawn: Tensor  # [R, K] int64, the pattern of each group
    masks: Tensor  # [R, K, m] of 0 and 1


@dataclass(frozen=True, slots=True)
class PatternWeights(LayerWeights):
    """An n:m layer's weights and the draw they were made from; None where nothing was drawn."""

    draw: PatternDraw | None = None


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


def check_estimator(estimator: str, sampling: str) -> str:
    """Checks that `estimator` is known and says something about `sampling`; see `sample_patterns`."""
    check_choice("sampling", sampling, SAMPLING)
    check_choice("estimator", estimator, ESTIMATORS)
    if estimator == "rao_blackwell" and sampling == "tempered":
        # A tempered gradient goes through pi, in which there is no noise: it is already its own conditional mean.
        raise ConfigError(
            "estimator: got 'rao_blackwell' with sampling 'tempered', whose gradient has no noise to average out; "
            "expected sampling 'gumbel', or estimator 'straight_through' or 'reinmax'"
        )
    return estimator


def sample_patterns(
    logits: Tensor,
    temperature: Tensor | float,
    sampling: str = "tempered",
    generator: torch.Generator | None = None,
    dim: int = -1,
    probs: Tensor | None = None,
    estimator: str = "straight_through",
    rao_blackwell_samples: int = 10,
) -> Tensor:
    """Draws one pattern per group: one-hot forward, an estimate of the draw's gradient backward.

    Args:
        logits: `[..., P]`, normalised, `-inf` where a pattern may not be drawn.
        temperature: `tau`, above 0. With `tempered` a low one makes draws greedy; with `gumbel` it leaves the draws
            alone and only sharpens their gradient.
        sampling: `tempered` draws from `pi = softmax(logits / tau)`; `gumbel` is the textbook hard Gumbel-softmax
            (arXiv 1611.01144, section 2.2), whose draws do not depend on `tau`.
        generator: Source of noise; None means torch's own.
        dim: Where the `P` patterns lie.
        probs: `pi = softmax(logits / tau)`, if the caller has it already; only `tempered` needs it.
        estimator: What stands in for the gradient of the draw, which the estimator never changes.
            `straight_through` takes that of the relaxed pattern. `reinmax` (arXiv 2304.08612) is exact where the loss
            is quadratic in the pattern, and noisier. `rao_blackwell` (arXiv 2010.04838), for `gumbel` alone, has the
            mean of the straight-through gradient and less variance, for more time.
        rao_blackwell_samples: Noises averaged by `rao_blackwell`; more means less variance, time and memory grow
            with it.

    Returns:
        Shaped as `logits`, exactly one-hot.

    Raises:
        ConfigError: for an unknown name, or an estimator that makes no sense of the sampling.
    """
    check_estimator(estimator, sampling)
    dim %= logits.dim()
    if sampling == "tempered":
        relaxed = F.softmax(logits / temperature, dim=dim) if probs is None else probs
        one_hot = _draw_tempered(relaxed.detach(), generator, dim)
    else:
        relaxed, one_hot = _draw_gumbel(logits, temperature, generator, dim)
    if estimator == "reinmax":
        return _reinmax(logits, temperature, sampling, one_hot, dim)
    if estimator == "rao_blackwell":
        return _rao_blackwell(logits, temperature, one_hot, rao_blackwell_samples, generator, dim)
    hard: Tensor = _StraightThrough.apply(relaxed, one_hot)
    return hard


def _draw_tempered(probs: Tensor, generator: torch.Generator | None, dim: int) -> Tensor:
    """Returns a one-hot draw from `pi`."""
    # A pattern is an exact draw from pi, so the expected value of whatever is linear in the pattern is its value at
    # pi, and pi itself is the relaxed pattern. A softmax with this draw's noise would relax one outcome instead of
    # the distribution, which adds variance to the gradient and nothing else.
    exponential = _exponential_noise(probs, generator)
    # argmax(pi / e) is argmax(logits / tau + g): the logarithm keeps the order.
    drawn = exponential.reciprocal_().mul_(probs).max(dim, keepdim=True).indices
    return torch.zeros_like(exponential).scatter_(dim, drawn, 1.0)


def _draw_gumbel(
    logits: Tensor, temperature: Tensor | float, generator: torch.Generator | None, dim: int
) -> tuple[Tensor, Tensor]:
    """Returns the noisy softmax of the Gumbel-softmax, with gradient, and the one-hot draw that it relaxes."""
    # y = softmax((logits + g) / tau), eq. 2 of 1611.01144: the draw is the limit of this noisy softmax, so that is
    # what the gradient goes through.
    noisy = logits - _exponential_noise(logits, generator).log_()
    relaxed = F.softmax(noisy / temperature, dim=dim)
    drawn = noisy.detach().max(dim, keepdim=True).indices
    return relaxed, torch.zeros_like(relaxed, requires_grad=False).scatter_(dim, drawn, 1.0)


def _exponential_noise(like: Tensor, generator: torch.Generator | None, copies: tuple[int, ...] = ()) -> Tensor:
    """Returns `e = -log(u) ~ Exp(1)`, `[*copies, *like.shape]`; `-log(e)` is then Gumbel noise."""
    # `Tensor.exponential_` takes four times as long on a CPU. The clamp keeps the Gumbel noise finite: the generator
    # does return an exact 0 now and then.
    uniform = torch.empty((*copies, *like.shape), dtype=like.dtype, device=like.device).uniform_(generator=generator)
    return uniform.clamp_min_(SMALLEST_UNIFORM).log_().neg_()


def _reinmax(logits: Tensor, temperature: Tensor | float, sampling: str, one_hot: Tensor, dim: int) -> Tensor:
    """Returns `one_hot` with the ReinMax gradient (Liu et al. 2023, arXiv 2304.08612, algorithm 2).

    With `J(p)` the Jacobian of softmax where its value is `p`, and `D` drawn from `pi`, the gradient is
    `2 J((pi + D) / 2) - J(pi) / 2`: Heun's method where straight-through's `J(pi)` is Euler's.
    """
    if sampling == "tempered":
        # The draw is from softmax(logits / tau), so that is the parameter, and nothing else is smoothed by tau.
        parameter = logits / temperature
        pi = smooth = F.softmax(parameter.detach(), dim=dim)
    else:
        # As published: draws from softmax(logits), and tau smooths only the point half way.
        parameter = logits
        pi = F.softmax(logits.detach(), dim=dim)
        smooth = F.softmax(logits.detach() / temperature, dim=dim)
    half_way = (smooth + one_hot) / 2
    hard: Tensor = _SoftmaxJacobians.apply(parameter, one_hot, dim, ((2.0, half_way), (-0.5, pi)))
    return hard


@torch.no_grad()
def _conditional_gumbels(
    logits: Tensor, one_hot: Tensor, samples: int, generator: torch.Generator | None, dim: int
) -> Tensor:
    """Returns noisy logits `[samples, *logits.shape]`, up to a constant, drawn given that `one_hot` is their argmax.

    Gumbels are minus the logarithms of exponential arrival times. The first arrival is exponential at the sum of all
    rates, and by its lack of memory every other time counts anew from there (2010.04838).
    """
    rates = (logits - logits.amax(dim, keepdim=True)).exp()  # 0 for a pattern that may not be drawn: never arrives
    noise = _exponential_noise(logits, generator, (samples,))
    first = (noise * one_hot).sum(dim + 1, keepdim=True) / rates.sum(dim, keepdim=True)
    return -(first + (1.0 - one_hot) * noise / rates).log_()


def _rao_blackwell(
    logits: Tensor,
    temperature: Tensor | float,
    one_hot: Tensor,
    samples: int,
    generator: torch.Generator | None,
    dim: int,
) -> Tensor:
    """Returns `one_hot` with the Gumbel-softmax gradient averaged over noises that draw the same pattern.

    Gumbel-Rao (Paulus, Maddison and Krause 2021, arXiv 2010.04838). The mean is the straight-through one, and
    by the Rao-Blackwell theorem the variance is at most as large.
    """
    noisy = _conditional_gumbels(logits, one_hot, samples, generator, dim)
    relaxed = F.softmax(noisy.div_(temperature), dim=dim + 1)  # [samples, *logits.shape]
    hard: Tensor = _SoftmaxJacobians.apply(logits / temperature, one_hot, dim, ((1.0 / samples, relaxed),))
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


class _SoftmaxJacobians(torch.autograd.Function):
    """Gives `hard` forward; backward multiplies by a weighted sum of Jacobians of softmax, `diag(p) - p p^T`.

    `points` are pairs of a weight and of values `p`, shaped as the logits or with one more dimension in front, over
    which the Jacobians are summed. Where `p` is 0, as for illegal patterns, the gradient is 0.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, hard: Tensor, dim: int, points: tuple[tuple[float, Tensor], ...]) -> Tensor:
        ctx.dim, ctx.points = dim, points
        return hard

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        total = torch.zeros_like(grad)
        for weight, p in ctx.points:
            along = p * grad
            product = along - p * along.sum(ctx.dim - grad.dim(), keepdim=True)
            total = total.add(product if p.dim() == grad.dim() else product.sum(0), alpha=weight)
        return total, None, None, None
