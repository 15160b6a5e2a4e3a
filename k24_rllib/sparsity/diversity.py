"""Module C of K-2:4: owners are pushed towards different patterns, with a weight that follows the TD loss.

Shapes: `A` mask owners, `J` out features, `G` groups, `P` patterns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from k24_rllib.checks import ConfigError, check_number


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

    Args:
        pi: `[P, A, ...]`, patterns first.

    Returns:
        `[...]`; 0 for a single owner.
    """
    owners = pi.shape[1]
    # 2 * sum_{a<b} pi_a . pi_b = |sum_a pi_a|^2 - sum_a |pi_a|^2
    both_orders = pi.sum(1).square().sum(0) - pi.square().sum((0, 1))
    return both_orders / max(owners * (owners - 1), 1)


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
    def update(self, td_loss: Tensor, div_loss: Tensor) -> Tensor:
        """Remembers both scalar losses and returns the coefficient, a scalar without gradient.

        Where either mean is zero the ratio says nothing and the coefficient is `div_coef`.
        """
        losses = torch.stack((td_loss.detach(), div_loss.detach())).to(self.history.dtype)
        self.history.index_copy_(1, self.count % self.window, losses.unsqueeze(1))
        self.count += 1
        td, div = self.history.sum(1)  # both over as many updates, so the ratio of sums is the ratio of means
        ratio = torch.where((td == 0) | (div == 0), 1.0, td / div)
        return (self.div_coef * ratio).abs()
