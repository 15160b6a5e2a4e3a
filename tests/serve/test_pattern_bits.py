"""Patterns as bits: their order is that of the layer, every index comes back, and 2:4 takes 3 bits a group."""

from __future__ import annotations

import numpy as np
import pytest

from k24_rllib.serve.pattern_bits import (
    illegal_pattern,
    index_bits,
    masks_of,
    most_kept,
    pack_indices,
    pattern_table,
    unpack_indices,
)
from k24_rllib.sparsity import NM_RATIOS, SemiStructuredLinear, nm_patterns


@pytest.mark.parametrize("ratio", NM_RATIOS.values())
def test_the_order_is_the_layers(ratio: tuple[int, int]) -> None:
    np.testing.assert_array_equal(pattern_table(*ratio), nm_patterns(*ratio).bool().numpy())


@pytest.mark.parametrize("ratio", NM_RATIOS.values())
@pytest.mark.parametrize("groups", [1, 2, 3, 8, 13])
def test_every_index_comes_back(ratio: tuple[int, int], groups: int) -> None:
    bits, count = index_bits(*ratio), len(pattern_table(*ratio))
    indices = np.random.default_rng(0).integers(count, size=(5, 7, groups)).astype(np.uint8)
    packed = pack_indices(indices, bits)
    assert packed.shape == (5, 7, -(-groups * bits // 8))
    np.testing.assert_array_equal(unpack_indices(packed, bits, groups), indices)


def test_three_bits_in_order_from_the_lowest() -> None:
    indices = np.array([[[1, 2, 3, 4, 5, 0, 1, 2]]], np.uint8)
    expected = sum(int(index) << 3 * place for place, index in enumerate(indices.flat))
    assert int.from_bytes(pack_indices(indices, 3).tobytes(), "little") == expected


@pytest.mark.parametrize("in_features", [4, 5, 6, 7, 21])
@pytest.mark.parametrize("ratio", [(2, 4), (1, 4), (4, 8)])
def test_masks_are_the_layers_and_legal(ratio: tuple[int, int], in_features: int) -> None:
    layer = SemiStructuredLinear(in_features, 6, 3, n=ratio[0], m=ratio[1])
    layer.hetero_alpha.data.normal_(std=3.0)
    indices = layer.most_likely_patterns().numpy().astype(np.uint8)
    np.testing.assert_array_equal(masks_of(indices, ratio, in_features), layer.masks(explore=False).bool().numpy())
    assert illegal_pattern(indices, ratio, in_features) is None
    assert most_kept(layer.weights(False).detach().numpy(), ratio[1]) <= ratio[0]


def test_an_index_beyond_the_patterns_or_of_padded_columns_is_found() -> None:
    assert illegal_pattern(np.array([[[0, 6]]], np.uint8), (2, 4), 8) == 6
    assert illegal_pattern(np.array([[[5, 0]]], np.uint8), (2, 4), 6) is None
    assert illegal_pattern(np.array([[[0, 5]]], np.uint8), (2, 4), 6) == 5  # 0011 of two real columns


def test_most_kept_counts_by_groups() -> None:
    weights = np.array([[[1, 0, 0, 1, 1, 1, 1, 0, 1]]], np.float32)
    assert most_kept(weights, 4) == 3
    assert most_kept(weights[..., :4], 4) == 2
