"""Every diversity loss against loops over pairs, and at the values that its docstring gives."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import (
    DIVERSITY_LOSSES,
    SemiStructuredLinear,
    SemiStructuredLinear24,
    diversity_loss,
    nm_patterns,
    pattern_orthogonality_loss,
)

NAMES = sorted(DIVERSITY_LOSSES)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_layers(owners: int = 4, widths: tuple[int, ...] = (8, 7, 2)) -> list[SemiStructuredLinear24]:
    layers = [SemiStructuredLinear24(width, 3, owners, temperature=0.7) for width in widths]
    with torch.no_grad():
        for layer in layers:
            layer.hetero_alpha.normal_()
    return layers


def entropy(distribution: list[float]) -> float:
    return -sum(p * math.log(p) for p in distribution if p > 0)


def group_loss(name: str, pi: Tensor, weights: Tensor) -> float:
    """The loss of one group, by hand: `pi [A, P]`, `weights [4]`."""
    owners = pi.tolist()
    pairs = list(itertools.combinations(owners, 2))
    if name == "js":
        mean = [sum(column) / len(owners) for column in zip(*owners, strict=True)]
        return 1 - (entropy(mean) - sum(entropy(p) for p in owners) / len(owners)) / math.log(len(owners))
    if name == "weighted":
        # The expectation over all patterns that the two owners may draw
        total = 0.0
        for (a, b), (first, p), (second, q) in itertools.product(
            pairs, enumerate(nm_patterns()), enumerate(nm_patterns())
        ):
            total -= a[first] * b[second] * float(((p - q).abs() * weights.abs()).sum()) / 4
        return total / len(pairs)
    dots = [sum(x * y for x, y in zip(a, b, strict=True)) for a, b in pairs]
    if name == "cosine":
        dots = [
            dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
            for dot, (a, b) in zip(dots, pairs, strict=True)
        ]
    return sum(dots) / len(dots)


def brute_force(name: str, layers: list[SemiStructuredLinear24]) -> float:
    values = []
    for layer in layers:
        pi = layer.pattern_probs().detach()
        padded = torch.nn.functional.pad(layer.weight.detach(), (0, -layer.in_features % 4)).unflatten(-1, (-1, 4))
        cells = itertools.product(range(layer.out_features), range(layer.num_choice_groups))
        losses = [group_loss(name, pi[:, j, g], padded[j, g]) for j, g in cells]
        if losses:
            values.append(sum(losses) / len(losses))
    return sum(values) / len(values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("owners", [2, 4])
def test_the_loss_equals_a_brute_force_loop(owners, name):
    layers = make_layers(owners)
    loss = diversity_loss(name, layers)
    assert loss.item() == pytest.approx(brute_force(name, layers), rel=1e-4)
    probs = [layer.pattern_probs(choice_only=True) for layer in layers]
    torch.testing.assert_close(diversity_loss(name, layers, probs), loss)


def test_dot_is_the_orthogonality_loss():
    layers = make_layers()
    expected = pattern_orthogonality_loss([layer.pattern_probs(choice_only=True) for layer in layers])
    torch.testing.assert_close(diversity_loss("dot", layers), expected)


def value_for(name: str, pi: Tensor) -> float:
    """The loss of owners with distributions `pi [A, P]` in every group of a layer whose weights are 2 or -2."""
    layer = SemiStructuredLinear24(8, 3, len(pi))
    with torch.no_grad():
        layer.weight.copy_(2.0 * torch.sign(torch.randn(3, 8)))
    return diversity_loss(name, [layer], [pi[:, None, None].expand(-1, 3, 2, -1)]).item()


@pytest.mark.parametrize(("name", "expected"), [("dot", 1 / 6), ("cosine", 1.0), ("js", 1.0), ("weighted", -1.0)])
def test_uniform_owners(name, expected):
    assert value_for(name, torch.full((3, 6), 1 / 6)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("dot", 1.0), ("cosine", 1.0), ("js", 1.0), ("weighted", 0.0)])
def test_owners_of_the_same_certain_pattern(name, expected):
    assert value_for(name, torch.eye(6)[[4, 4, 4]]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("dot", 0.0), ("cosine", 0.0), ("js", 0.0), ("weighted", -2.0)])
def test_owners_that_share_no_weight(name, expected):
    assert value_for(name, torch.eye(6)[[0, 5]]) == pytest.approx(expected, abs=1e-6)


def test_patterns_that_share_a_weight_differ_by_half():
    assert value_for("weighted", torch.eye(6)[[0, 1]]) == pytest.approx(-1.0)


def test_js_of_more_owners_than_patterns_has_a_floor():
    assert value_for("js", torch.eye(6).repeat(2, 1)) == pytest.approx(1 - math.log(6) / math.log(12), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_descent_separates_owners(name):
    layer = SemiStructuredLinear24(8, 4, 2, temperature=1.0)
    optimizer = torch.optim.Adam([layer.hetero_alpha], lr=0.1)
    before = (layer.masks(False)[0] != layer.masks(False)[1]).float().mean()
    for _ in range(150):
        loss = diversity_loss(name, [layer])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = (layer.masks(False)[0] != layer.masks(False)[1]).float().mean()
    assert after > before + 0.3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [7, 8])
def test_gradients_are_finite_and_reach_alpha_even_where_patterns_are_certain(width, name):
    layer = SemiStructuredLinear24(width, 3, 3, temperature=0.02)
    diversity_loss(name, [layer]).backward()
    assert layer.hetero_alpha.grad.isfinite().all()
    layer.temperature = 1.0
    diversity_loss(name, [layer]).backward()
    assert layer.hetero_alpha.grad.isfinite().all()
    assert (layer.hetero_alpha.grad != 0).any()


def test_weights_are_no_way_to_more_diversity():
    """`weighted` may move W through the scores, as every loss does, but not through its own factor `|W|`."""
    layer = SemiStructuredLinear24(8, 3, 2)
    probs = [layer.pattern_probs(choice_only=True).detach().requires_grad_()]
    diversity_loss("weighted", [layer], probs).backward()
    assert layer.weight.grad is None
    assert (probs[0].grad != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_single_owner_gives_zero_with_a_gradient(name):
    layer = SemiStructuredLinear24(8, 4, 1)
    loss = diversity_loss(name, [layer])
    assert loss.item() == pytest.approx(0.0, abs=1e-7)
    loss.backward()
    torch.testing.assert_close(layer.hetero_alpha.grad, torch.zeros(1, 4, 8), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_other_ratios(name):
    layers = [SemiStructuredLinear(13, 3, 3, n=n, m=8) for n in (2, 4)]
    assert diversity_loss(name, layers).isfinite()
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
            layer.hetero_alpha.zero_()
    uniform = {"dot": 1 / 28, "cosine": 1.0, "js": 1.0, "weighted": -2 * 0.25 * 0.75}
    layer = SemiStructuredLinear(16, 3, 3, n=2, m=8)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.hetero_alpha.zero_()
    assert diversity_loss(name, [layer]).item() == pytest.approx(uniform[name], abs=1e-5)


def test_impossible_arguments_are_named():
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        diversity_loss("cosin", make_layers())
    with pytest.raises(ConfigError, match="layers"):
        diversity_loss("dot", [])
    assert diversity_loss("js", make_layers(widths=(1, 2))).item() == 0.0
