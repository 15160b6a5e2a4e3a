"""What a layer keeps for acting: what its owners share, and which of it each owner keeps.

Shapes: `A` mask owners, `K` matrices (`A`, or 1 that all owners share), `R` masks that differ (`A`, or 1), `I`/`J`
in/out features, `G` groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class KeptWeights:
    """A layer's numbers once nothing is learned any more.

    Attributes:
        weight: `[K, J, I]`, without gradient.
        bias: `[K', J]`, `K'` 1 or `A`; None without one.
        ratio: `(n, m)` where each owner keeps `n` of every `m` weights.
        patterns: `[R, J, G]`, the index of each group's pattern among `nm_patterns(n, m)`; then `K` is 1, and owner `a`
            has the weights of `weight[0]` that pattern `[a]` keeps.
        pruned: Whether weights of 0 are left out as not kept.
    """

    weight: Tensor
    bias: Tensor | None
    ratio: tuple[int, int] | None = None
    patterns: Tensor | None = None
    pruned: bool = False
