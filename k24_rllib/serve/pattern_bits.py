"""Patterns of n of every m weights as few bits: 3 for each group of four of a 2:4 layer.

Shapes: `R` masks that differ, `J`/`I` out/in features, `G = ceil(I / m)` groups, `P` patterns (6 for 2:4).
Bits lie in their order from each byte's lowest, and each row begins with a byte of its own, so that a row can be read
alone.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@cache
def pattern_table(n: int, m: int) -> NDArray[np.bool_]:
    """Returns the patterns that keep `n` of `m`, `[P, m]`, in the order of `sparsity.nm_patterns`."""
    kept = list(combinations(range(m), n))
    table = np.zeros((len(kept), m), bool)
    np.put_along_axis(table, np.array(kept), True, 1)
    table.flags.writeable = False
    return table


def index_bits(n: int, m: int) -> int:
    """Returns the bits of a pattern's index: 3 for 2:4."""
    return (len(pattern_table(n, m)) - 1).bit_length()


def pack_indices(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Returns indices `[..., G]` in as many bits each, `[..., ceil(G * bits / 8)]`."""
    places = (indices[..., None] >> np.arange(bits, dtype=np.uint8)) & 1  # [..., G, bits]
    return np.packbits(places.reshape(*indices.shape[:-1], -1), axis=-1, bitorder="little")


def unpack_indices(packed: NDArray[np.uint8], bits: int, groups: int) -> NDArray[np.uint8]:
    """Returns the `G = groups` indices that `pack_indices` packed, `[..., G]`."""
    places = np.unpackbits(packed, axis=-1, count=groups * bits, bitorder="little")
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return (places.reshape(*packed.shape[:-1], groups, bits) * weights).sum(-1, dtype=np.uint8)


def masks_of(indices: NDArray[np.uint8], ratio: tuple[int, int], in_features: int) -> NDArray[np.bool_]:
    """Returns the masks `[R, J, I]` of patterns `[R, J, G]`."""
    masks = pattern_table(*ratio)[indices]  # [R, J, G, m]
    return masks.reshape(*indices.shape[:-1], -1)[..., :in_features]


def illegal_pattern(indices: NDArray[np.uint8], ratio: tuple[int, int], in_features: int) -> int | None:
    """Returns the first index that is no pattern, or keeps a padded column while it leaves out a real one; or None.

    Of a last group of `r` real columns exactly `min(n, r)` are kept, as the layer's masks do.
    """
    table, ragged = pattern_table(*ratio), in_features % ratio[1]
    unknown = indices[indices >= len(table)]
    if unknown.size:
        return int(unknown[0])
    if ragged:
        last = indices[..., -1].reshape(-1)
        wrong = last[table[last, :ragged].sum(-1) != min(ratio[0], ragged)]
        if wrong.size:
            return int(wrong[0])
    return None


def most_kept(weights: NDArray[np.float32], m: int) -> int:
    """Returns the most weights other than 0 in any group of `m` of `weights [K, J, I]`."""
    padding = -weights.shape[-1] % m
    kept = np.pad(weights != 0, [(0, 0), (0, 0), (0, padding)])
    return int(kept.reshape(*kept.shape[:-1], -1, m).sum(-1).max(initial=0))
