"""What a layer keeps for acting makes its weights again, exactly, and is what owners share where they share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from k24_rllib.sparsity import (
    DenseLinear,
    HyperLinear,
    IndependentLinear,
    KaleidoscopeLinear,
    MaskedLayer,
    SemiStructuredLinear,
    SemiStructuredLinear24,
    nm_patterns,
)

OWNERS = 3
LAYERS = {
    "dense": lambda size: DenseLinear(size, 5, OWNERS),
    "independent": lambda size: IndependentLinear(size, 5, OWNERS),
    "hyper": lambda size: HyperLinear(size, 5, OWNERS),
    "hyper without bias": lambda size: HyperLinear(size, 5, OWNERS, bias=False),
    "2:4": lambda size: SemiStructuredLinear24(size, 5, OWNERS, masks="fixed_random"),
    "2:4 shared": lambda size: SemiStructuredLinear24(size, 5, OWNERS, shared_mask=True),
    "1:4 without bias": lambda size: SemiStructuredLinear(size, 5, OWNERS, n=1, bias=False),
    "kaleidoscope": lambda size: KaleidoscopeLinear(size, 5, OWNERS, threshold_bias=1.0),
}


@pytest.mark.parametrize("size", [8, 9, 10, 11])
@pytest.mark.parametrize("name", LAYERS)
def test_it_makes_the_weights_again(name: str, size: int) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name](size)
    kept = layer.kept()
    made = kept.weight
    if kept.patterns is not None and kept.ratio is not None:
        assert made.shape[0] == 1
        made = made * nm_patterns(*kept.ratio)[kept.patterns].flatten(2)[..., :size]
    assert made.shape[0] in (1, OWNERS)
    assert torch.equal(made.expand(OWNERS, -1, -1), layer.weights(explore=False))
    assert not made.requires_grad
    assert (kept.bias is None) == (layer.bias is None)


def test_frozen_masks_are_what_is_kept() -> None:
    layer = SemiStructuredLinear24(8, 5, OWNERS)
    layer.freeze_masks()
    frozen = layer.kept().patterns
    with torch.no_grad():
        layer.hetero_alpha.normal_(std=10.0)
    assert torch.equal(layer.kept().patterns, frozen)


def test_a_users_layer_keeps_each_owners_weights() -> None:
    class Gain(MaskedLayer):
        def __init__(self) -> None:
            super().__init__(8, 5, OWNERS)
            self.init_shared(8)
            self.gain = torch.nn.Parameter(torch.rand(OWNERS, 1, 8))

        def weights(self, explore: bool) -> Tensor:
            return self.gain * self.weight

    layer = Gain()
    kept = layer.kept()
    assert torch.equal(kept.weight, layer.weights(False))
    assert kept.bias is not None
    assert kept.bias.shape == (1, 5)
