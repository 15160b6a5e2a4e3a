"""A GRU whose matrices are masked layers: the equations, whose numbers move, and that owners differ."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from k24_rllib.checks import ConfigError
from k24_rllib.models import GRUAgent
from k24_rllib.models.masked_gru import MaskedGRU
from k24_rllib.models.team_model import layer_factory
from k24_rllib.sparsity import LAYERS

A, T, R, SIZE, HIDDEN = 3, 5, 7, 12, 16


def make(layer: str = "2:4", compiled: bool = True, owner_scale: bool = False) -> MaskedGRU:
    torch.manual_seed(0)
    cell = MaskedGRU(SIZE, HIDDEN, layer_factory(LAYERS.part(layer), A, owner_scale), compiled)
    if owner_scale:
        for part in cell.layers():
            nn.init.normal_(part.owner_gain, 1.0, 0.3)
            nn.init.normal_(part.owner_bias, 0.0, 0.3)
    return cell


def inputs() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(A, T, R, SIZE, generator=random), torch.randn(A, R, HIDDEN, generator=random)


def by_torch(cell: MaskedGRU, x: Tensor, hidden: Tensor) -> Tensor:
    """Returns the states `[A, T, R, H]` by PyTorch's own GRU, an owner after the other, and its layers' products."""
    states = []
    for owner in range(A):
        plain = nn.GRU(SIZE, HIDDEN)
        with torch.no_grad():
            for layer, weight, bias in (
                (cell.ih, plain.weight_ih_l0, plain.bias_ih_l0),
                (cell.hh, plain.weight_hh_l0, plain.bias_hh_l0),
            ):
                made, nothing = layer.make_weights(False), torch.zeros(A, 1, layer.in_features)
                unit = torch.eye(layer.in_features).expand(A, -1, -1)
                bias.copy_(layer(nothing, made)[owner, 0])
                weight.copy_((layer(unit, made)[owner] - bias).T)
        states.append(plain(x[owner], hidden[owner : owner + 1])[0])
    return torch.stack(states)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("layer", "owner_scale"), [("2:4", False), ("2:4", True), ("kaleidoscope", False)])
def test_every_owner_runs_its_own_gru(layer: str, owner_scale: bool, compiled: bool) -> None:
    cell, (x, hidden) = make(layer, compiled, owner_scale), inputs()
    made = [part.make_weights(False) for part in cell.layers()]
    states, last = cell.unroll(x, hidden, made)
    torch.testing.assert_close(states, by_torch(cell, x, hidden), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, states[:, -1])


@pytest.mark.parametrize("compiled", [False, True])
def test_the_gradient_reaches_weights_and_what_owners_choose_by(compiled: bool) -> None:
    cell, (x, hidden) = make(compiled=compiled), inputs()
    made = [part.make_weights(True) for part in cell.layers()]
    cell.unroll(x, hidden, made)[0][0].square().sum().backward()
    for part in cell.layers():
        assert part.weight.grad.abs().sum() > 0
        assert part.hetero_alpha.grad[0].abs().sum() > 0
        assert not part.hetero_alpha.grad[1:].any()  # the loss was the first owner's alone


def test_each_matrix_keeps_two_of_four() -> None:
    for part in make().layers():
        kept = (part.make_weights(True).weights != 0).unflatten(-1, (-1, 4)).sum(-1)
        assert (kept == 2).all()


def test_one_weight_for_all_takes_any_groups() -> None:
    cell, (x, hidden) = make("dense"), inputs()
    made = [part.make_weights(False) for part in cell.layers()]
    both = cell.unroll(x.flatten(0, 0).reshape(1, T, -1, SIZE), hidden.reshape(1, -1, HIDDEN), made)[0]
    assert both.shape == (1, T, A * R, HIDDEN)


def test_a_step_after_the_other_is_the_unroll() -> None:
    cell, (x, hidden) = make(), inputs()
    made = [part.make_weights(False) for part in cell.layers()]
    whole, _ = cell.unroll(x, hidden, made)
    for step in range(T):
        _, hidden = cell.unroll(x[:, step : step + 1], hidden, made)
        torch.testing.assert_close(hidden, whole[:, step], rtol=1e-5, atol=1e-6)


def test_the_state_is_followed_where_rows_are_real() -> None:
    cell, (x, _) = make(), inputs()
    made = [part.make_weights(True) for part in cell.layers()]
    real = torch.ones(A, T, R)
    real[:, 2:] = 0.0
    hidden = torch.zeros(A, R, HIDDEN)
    states, _ = cell.unroll(x, hidden, made, real.flatten(1))
    before = torch.cat((hidden.unsqueeze(1), states[:, :1]), 1)
    torch.testing.assert_close(cell.hh.tracker.value, before.abs().mean((0, 1, 2)))
    torch.testing.assert_close(cell.ih.tracker.value, x[:, :2].abs().mean((0, 1, 2)))


def test_an_agent_with_a_masked_cell_has_nothing_dense() -> None:
    agent = GRUAgent(SIZE, 5, A, layer_factory(LAYERS.part("2:4"), A), hidden_dim=HIDDEN, masked_cell=True)
    layers = agent.layers()
    assert len(layers) == 6
    assert set(agent.parameters()) == {p for layer in layers for p in layer.parameters()}
    x = torch.randn(A, T, R, SIZE)
    values, hidden = agent.unroll(x, agent.initial_hidden(A, R), agent.weights(True), torch.ones(A, T * R))
    assert values.shape == (A, T, R, 5)
    assert hidden.shape == (A, R, HIDDEN)
    with pytest.raises(ConfigError, match="masked_cell: got true"):
        agent.stages()
    with pytest.raises(ConfigError, match="masked_cell: got 'yes'"):
        GRUAgent(SIZE, 5, A, layer_factory(LAYERS.part("2:4"), A), masked_cell="yes")
