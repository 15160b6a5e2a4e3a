"""HyperMARL's layer: what makes each owner's weights, how they start, and whose gradient reaches what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import LAYERS, HyperLinear, IndependentLinear, Memory

A, IN, J = 4, 32, 48
KINDS = [
    {},
    {"hypernet_dim": 0},
    {"embedding_dim": 0},
    {"embedding_dim": 0, "hypernet_dim": 0},
    {"embedding_dim": 2},
    {"embedding_dim": 2, "hypernet_dim": 1},
]


def make(seed: int = 0, **options) -> HyperLinear:
    torch.manual_seed(seed)
    return HyperLinear(IN, J, A, **options)


def by_hand(layer: HyperLinear, owner: int) -> tuple[Tensor, Tensor]:
    """Returns an owner's weights and biases, made of the parameters one matrix after the other."""
    told = torch.eye(A)[owner] if layer.embedding is None else layer.embedding[owner]
    if layer.hidden is not None:
        told = (layer.hidden.weight @ told + layer.hidden.bias).clamp(min=0.0)
    weight, bias = torch.zeros(J, IN), torch.zeros(J)
    for feature, matrix, vector in zip(told, layer.weight, layer.bias, strict=True):
        weight, bias = weight + feature * matrix, bias + feature * vector
    return weight, bias


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_each_owners_rows_meet_what_is_made_of_its_embedding(options: dict[str, int]) -> None:
    layer, x = make(**options), torch.randn(A, 5, IN)
    if layer.hidden is not None:
        torch.nn.init.normal_(layer.hidden.bias, std=0.1)
    y = layer(x)
    for owner in range(A):
        weight, bias = by_hand(layer, owner)
        torch.testing.assert_close(y[owner], x[owner] @ weight.T + bias, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.kept_bias()[owner], bias)
    without = make(bias=False, **options)
    torch.testing.assert_close(without(x), torch.bmm(x, without.weights(explore=False).mT))
    assert without.kept_bias() is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_every_owner_starts_at_the_scale_of_a_linear_layer(options: dict[str, int], seed: int) -> None:
    layer = make(seed, **options)
    torch.testing.assert_close(layer.features().norm(dim=1), torch.ones(A))
    made = layer.make_weights(explore=True)
    expected = (3 * IN) ** -0.5  # of a uniform draw within 1 / sqrt(IN)
    assert (made.weights.flatten(1).std(1) / expected - 1).abs().max() < 0.1
    assert (made.biases.std(1) / expected - 1).abs().max() < 0.4  # 48 numbers each


@pytest.mark.parametrize(("options", "most"), [({"hypernet_dim": 0}, 0.1), ({}, 0.6), ({"embedding_dim": 0}, 0.6)])
def test_owners_start_different(options: dict[str, int], most: float) -> None:
    """Orthogonal embeddings stay so in a linear hypernetwork; ReLUs leave a third in common."""
    weights = make(**options).weights(explore=False).detach()
    flat = torch.nn.functional.normalize(weights.flatten(1), dim=1)
    alike = flat @ flat.T - torch.eye(A)
    assert alike.abs().max() < most
    if most > 0.1:
        assert float(alike.sum()) / (A * (A - 1)) == pytest.approx(1 / torch.pi, abs=0.15)


def test_fewer_numbers_than_owners_still_tell_them_apart() -> None:
    layer = make(embedding_dim=2, hypernet_dim=0)
    weights = layer.weights(explore=False)
    for one in range(A):
        for other in range(one):
            assert (weights[one] - weights[other]).abs().max() > 0.01


def test_the_one_hot_linear_form_is_a_layer_for_each_owner() -> None:
    layer, own, x = make(embedding_dim=0, hypernet_dim=0), IndependentLinear(IN, J, A), torch.randn(A, 3, IN)
    own.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), own(x))


@pytest.mark.parametrize("options", KINDS[:-1], ids=str)
def test_an_owners_inputs_reach_the_hypernetwork_as_one_gradient_of_its_weights(options: dict[str, int]) -> None:
    """`dL/dtheta = (dW_a/dtheta) (dL/dW_a)`, with nothing of other owners in it."""
    layer, x, owner = make(**options), torch.randn(A, 7, IN), 2
    y = layer(x)
    sent = torch.randn(7, J)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    found = torch.autograd.grad((y[owner] * sent).sum(), parameters, retain_graph=True)
    of_weights = sent.T @ x[owner]  # [J, I], and the inputs are not asked again
    weight, bias = by_hand(layer, owner)
    expected = torch.autograd.grad((weight * of_weights).sum() + (bias * sent.sum(0)).sum(), parameters)
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)
    if layer.embedding is not None:
        (reached,) = torch.autograd.grad((y[owner] * sent).sum(), layer.embedding)
        assert reached.any(1).tolist() == [it == owner for it in range(A)]


def test_what_one_owner_learns_moves_others_through_the_hypernetwork_alone() -> None:
    for options, shared in (({}, True), ({"embedding_dim": 0, "hypernet_dim": 0}, False)):
        layer, x = make(**options), torch.randn(A, 7, IN)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        before = layer(x).detach()
        layer(x)[1].square().mean().backward()
        optimizer.step()
        moved = (layer(x) - before).abs().amax((1, 2)) > 1e-6
        assert moved.tolist() == [shared, True, shared, shared], options


def test_acting_needs_what_was_made_and_training_what_makes_it() -> None:
    layer = make(embedding_dim=3, hypernet_dim=5)
    assert layer.memory() == Memory.owned(IN * J + J, A)
    assert make(bias=False).memory() == Memory.owned(IN * J, A)
    trained = sum(parameter.numel() for parameter in layer.parameters())
    assert trained == A * 3 + (3 * 5 + 5) + 5 * (IN * J + J)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"embedding_dim": -1}, "embedding_dim: got -1, expected a whole number at least 0 and at most 8192"),
        ({"hypernet_dim": 2.5}, "hypernet_dim: got 2.5, expected a whole number at least 0 and at most 8192"),
        ({"hypernet_dim": 10_000}, "hypernet_dim: got 10000, expected a whole number at least 0"),
        (
            {"embeding_dim": 4},
            "unknown layer_options key 'embeding_dim' of layer 'hyper'; did you mean 'embedding_dim'",
        ),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, float], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        LAYERS.part("hyper", options).make(IN, J, A)
