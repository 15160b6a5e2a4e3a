"""Module C of K-2:4: owners are pushed towards different patterns, with a weight that follows the TD loss.

Shapes: `A` mask owners, `J` out features, `G` groups, `P` patterns, `m` weights of a group, `...` groups in any shape.
Per group, patterns come first (`[P, A, ...]`), as the layers keep them in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from k24_rllib.checks import ConfigError, check_choice, check_number

if TYPE_CHECKING:
    from k24_rllib.sparsity.semi_structured import SemiStructuredLinear

SMALLEST_PROBABILITY = 1e-12
"""Probabilities below this count as this in a logarithm, whose gradient at 0 is infinite."""


def diversity_loss(name: str, layers: Sequence[SemiStructuredLinear], probs: Sequence[Tensor] | None = None) -> Tensor:
    """Returns a diversity loss by its name: the mean over layers of the mean over a layer's groups with a choice.

    Args:
        name: One of `DIVERSITY_LOSSES`, whose functions give each loss's equation, range and typical values. For all
            of them lower is more diverse.
        layers: Layers of the same mask owners. Those without groups to choose in do not count.
        probs: What `pattern_probs(choice_only=True)` of each layer returned, if the caller has it already.

    Returns:
        A scalar with gradient; 0 for a single owner.

    Raises:
        ConfigError: for an unknown name, or if there is no layer.
    """
    check_choice("diversity", name, DIVERSITY_LOSSES)
    if not layers:
        raise ConfigError("layers: got no layer, expected at least one")
    loss = DIVERSITY_LOSSES[name]
    values, probs = [], probs or [layer.pattern_probs(choice_only=True) for layer in layers]
    for layer, pi in zip(layers, probs, strict=True):
        magnitude = layer.group_magnitudes()[..., : pi.shape[2]]  # [m, J, G]
        values.append(loss(pi.movedim(-1, 0), magnitude, layer.patterns))
    chosen = [value.mean() for value in values if value.numel() > 0]
    return torch.stack(chosen).mean() if chosen else probs[0].sum()


def pattern_orthogonality_loss(probs: Sequence[Tensor]) -> Tensor:
    """Returns `L_div`: how often two owners that draw a pattern for the same group agree (method, module C).

    The mean over layers, over (row, group) and over pairs `a < b` of `pi[a] . pi[b]`. Uniform owners give `1 / P`,
    owners that never agree 0; see `similarity_floor` for what can be reached.

    Args:
        probs: A tensor `pi [A, J, G, P]` per layer. Layers without groups do not count.

    Returns:
        A scalar with gradient; 0 for a single owner.

    Raises:
        ConfigError: if there is no layer.
    """
    if not probs:
        raise ConfigError("probs: got no layer, expected at least one")
    # Layers too narrow to choose anything (I <= 2) have no group
    layers = [_mean_agreement(pi) for pi in probs if pi.numel() > 0]
    return torch.stack(layers).mean() if layers else probs[0].sum()


def _mean_agreement(pi: Tensor) -> Tensor:
    """Returns the mean of `pi[a] . pi[b]` over owner pairs and groups of one layer, without a loop over pairs."""
    return pair_agreement(pi.movedim(-1, 0)).mean()  # [P, A, J, G], as the layer keeps them in memory


def pair_agreement(pi: Tensor) -> Tensor:
    """Returns the mean of `pi[a] . pi[b]` over owner pairs `a < b` for each group, without a loop over pairs.

    In [0, 1]: uniform owners give `1 / P`, owners of the same certain pattern 1, owners that never agree 0.

    Args:
        pi: `[P, A, ...]`, patterns first.

    Returns:
        `[...]`; 0 for a single owner.
    """
    agreement: Tensor = _PairAgreement.apply(pi)
    return agreement


class _PairAgreement(torch.autograd.Function):
    """`pair_agreement` with its gradient in closed form, a fifth of the operations that autograd would make."""

    @staticmethod
    def forward(ctx: Any, pi: Tensor) -> Tensor:
        total = pi.sum(1)
        ctx.save_for_backward(pi, total)
        # 2 * sum_{a<b} pi_a . pi_b = |sum_a pi_a|^2 - sum_a |pi_a|^2
        both_orders = total.square().sum(0) - pi.square().sum((0, 1))
        return both_orders / _ordered_pairs(pi)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        pi, total = ctx.saved_tensors
        return (total.unsqueeze(1) - pi) * (grad * (2.0 / _ordered_pairs(pi)))


def _ordered_pairs(pi: Tensor) -> int:
    """Returns the number of pairs `a != b` of owners in `pi [P, A, ...]`, at least 1."""
    owners = pi.shape[1]
    return max(owners * (owners - 1), 1)


def pair_cosine(pi: Tensor) -> Tensor:
    """Returns the mean over pairs `a < b` of `pi[a] . pi[b] / (|pi[a]| |pi[b]|)`, `[...]` for `pi [P, A, ...]`.

    In [0, 1]: owners that have the same distribution, uniform ones among them, give 1, and owners that never agree 0.
    Unlike the dot product it rewards differing alone, not being undecided.
    """
    return pair_agreement(pi / torch.linalg.vector_norm(pi, dim=0))


def jensen_shannon_agreement(pi: Tensor) -> Tensor:
    """Returns `1 - JS / log A`, `[...]` for `pi [P, A, ...]`, with `JS = H(mean_a pi[a]) - mean_a H(pi[a])`.

    `JS` is the Jensen-Shannon divergence of all owners (Lin 1991, with equal weights): how much a pattern tells
    about who drew it. In [0, 1]: owners that have the same distribution, uniform ones among them, give 1, and owners
    that never agree 0. More owners than patterns cannot reach less than `1 - log P / log A`.
    """
    owners = pi.shape[1]
    if owners == 1:
        return 0.0 * pi.sum((0, 1))
    divergence = _entropy(pi.mean(1)) - _entropy(pi).mean(0)
    return 1.0 - divergence / math.log(owners)


def _entropy(pi: Tensor) -> Tensor:
    """Returns the entropy in nats along the first dimension."""
    return -(pi * pi.clamp_min(SMALLEST_PROBABILITY).log()).sum(0)


def weighted_mask_difference(pi: Tensor, magnitude: Tensor, patterns: Tensor) -> Tensor:
    """Returns minus the `|W|`-weighted difference expected between two owners' masks (after Kaleidoscope, 2410.08540).

    `-mean_i mean_{a != b} |W_i| P(mask_a,i != mask_b,i)` over the `m` weights of a group. Owners draw on their own, so
    with `k_a = pi[a] @ M`, the probability that owner `a` keeps a weight, the last factor is
    `k_a (1 - k_b) + k_b (1 - k_a)`; for certain masks it is Kaleidoscope's `|mask_a - mask_b|`.

    In [-mean |W|, 0]: uniform owners give `-2 q (1 - q) mean |W|` with density `q = n / m` (half the mean for 2:4),
    owners of the same certain mask 0, and two owners that share no weight (1100 and 0011) `-mean |W|`. Two that differ
    in one weight of their two (1100 and 1010) give about half of that. The scale of `W` is the scale of this loss.

    Args:
        pi: `[P, A, ...]`.
        magnitude: `|W|`, `[m, ...]`, without gradient: diversity shall not be bought with larger weights.
        patterns: `M [P, m]`.

    Returns:
        `[...]`; 0 for a single owner.
    """
    owners = pi.shape[1]
    kept = (patterns.mT @ pi.flatten(1)).view(patterns.shape[1], *pi.shape[1:])  # [m, A, ...]
    total = kept.sum(1)
    # sum_{a != b} k_a (1 - k_b) + k_b (1 - k_a) = 2 ((A - 1) sum_a k_a - (sum_a k_a)^2 + sum_a k_a^2)
    differing = 2.0 * ((owners - 1) * total - total.square() + kept.square().sum(1))
    return -(magnitude * differing).mean(0) / _ordered_pairs(pi)


GroupLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A diversity loss of each group: of `pi [P, A, ...]`, `|W| [m, ...]` and the patterns `M [P, m]`; returns `[...]`."""

DIVERSITY_LOSSES: dict[str, GroupLoss] = {
    "dot": lambda pi, magnitude, patterns: pair_agreement(pi),
    "cosine": lambda pi, magnitude, patterns: pair_cosine(pi),
    "js": lambda pi, magnitude, patterns: jensen_shannon_agreement(pi),
    "weighted": weighted_mask_difference,
}
"""Diversity losses by name; `dot` is the method's. Add a function here, and `diversity_loss` knows it."""


def similarity_floor(num_masks: int, num_patterns: int = 6) -> float:
    """Returns the smallest `L_div` that `num_masks` owners can reach (pigeonhole: 4/45 for 10 owners, 0 up to 6)."""
    check_number("num_masks", num_masks, low=1, integer=True)
    check_number("num_patterns", num_patterns, low=1, integer=True)
    share, rest = divmod(num_masks, num_patterns)
    agreeing = rest * (share + 1) * share + (num_patterns - rest) * share * (share - 1)  # ordered pairs
    return agreeing / max(num_masks * (num_masks - 1), 1)


class AdaptiveDiversityCoefficient(nn.Module):
    """The weight `c = |div_coef * mean(td history) / mean(div history)|` of the diversity loss (method, module C).

    It keeps the weighted loss at about `div_coef` of the TD loss (Kaleidoscope, arXiv 2410.08540).

    Args:
        div_coef: Size of the diversity loss relative to the TD loss; higher separates owners sooner. 0 turns it off.
        window: Updates remembered; longer is smoother.
    """

    history: Tensor
    count: Tensor

    def __init__(self, div_coef: float, window: int = 100) -> None:
        super().__init__()
        self.div_coef = float(check_number("div_coef", div_coef, low=0.0))
        self.window = int(check_number("window", window, low=1, integer=True))
        self.register_buffer("history", torch.zeros(2, self.window))  # TD and diversity losses, a ring
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))  # updates so far

    @torch.no_grad()
    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Takes over the `state_dict` of another; where its window was another, the newest updates that fit here."""
        history, count = state["history"], int(state["count"])
        before = history.shape[1]
        kept = torch.arange(max(count - min(before, self.window), 0), count, device=history.device)
        self.history.zero_()
        self.history[:, kept % self.window] = history[:, kept % before].to(self.history)
        self.count.fill_(count)

    @torch.no_grad()
    def update(self, td_loss: Tensor, div_loss: Tensor) -> Tensor:
        """Remembers both scalar losses and returns the coefficient, a scalar without gradient.

        Where either mean is zero the ratio says nothing and the coefficient is `div_coef`.
        """
        losses = torch.stack((td_loss, div_loss)).to(self.history.dtype)
        self.history.index_copy_(1, self.count % self.window, losses.unsqueeze(1))
        self.count += 1
        sums = self.history.sum(1)  # both over as many updates, so the ratio of sums is the ratio of means
        td, div = sums.unbind()
        ratio = (td / div).masked_fill_((sums == 0).any(), 1.0)
        return ratio.mul_(self.div_coef).abs_()
