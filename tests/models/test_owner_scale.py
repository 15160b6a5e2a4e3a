"""A gain and a bias of each owner beside what all share."""

from __future__ import annotations

import pytest
import torch

from k24_rllib.models import GRUAgent, layer_factory
from k24_rllib.sparsity import LAYERS, MaskedLayer

A, ROWS, FEATURES, OUT = 3, 5, 8, 4
LAYER_NAMES = ["dense", "independent", "hyper", "2:4", "kaleidoscope"]


def make(name: str, owner_scale: bool = True) -> MaskedLayer:
    torch.manual_seed(0)
    return layer_factory(LAYERS.part(name), A, owner_scale)(FEATURES, OUT)


@pytest.mark.parametrize("name", LAYER_NAMES)
def test_it_starts_as_if_it_were_not_there(name: str) -> None:
    x = torch.randn(A, ROWS, FEATURES)
    for layer in (mine := make(name), without := make(name, owner_scale=False)):
        layer.eval()
    assert torch.equal(mine(x), without(x))


@pytest.mark.parametrize("name", LAYER_NAMES)
def test_each_owner_has_its_own(name: str) -> None:
    layer, x = make(name).eval(), torch.randn(A, ROWS, FEATURES)
    before = layer(x)
    with torch.no_grad():
        layer.owner_gain[1] = 2.0
        layer.owner_bias[1] = 0.5
    after = layer(x)
    torch.testing.assert_close(after[1], 2.0 * before[1] + 0.5)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    (gradient,) = torch.autograd.grad(after[1].sum(), layer.owner_gain)
    assert (gradient[1] != 0).all()
    assert (gradient[[0, 2]] == 0).all()


def test_shared_weights_must_then_be_told_whose_rows_are_whose() -> None:
    x = torch.randn(1, A * ROWS, FEATURES)
    assert make("dense", owner_scale=False)(x).shape == (1, A * ROWS, OUT)
    with pytest.raises(ValueError, match=r"expected \[3, rows, 8\]"):
        make("dense")(x)


def test_an_agent_counts_what_each_owner_has() -> None:
    def agent(owner_scale: bool) -> GRUAgent:
        return GRUAgent(FEATURES, OUT, A, layer_factory(LAYERS.part("dense"), A, owner_scale), hidden_dim=16)

    with_scale, without = agent(True), agent(False)
    outputs = sum(layer.out_features for layer in with_scale.layers())
    assert with_scale.memory().numbers == without.memory().numbers + 2 * A * outputs
    assert with_scale.memory().owner_numbers == without.memory().owner_numbers + 2 * outputs
    assert with_scale.tells_owners_apart
    assert not without.tells_owners_apart
