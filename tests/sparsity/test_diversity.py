"""Module C: the orthogonality loss, its floor and its adaptive weight."""

from __future__ import annotations

import itertools

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import (
    AdaptiveDiversityCoefficient,
    SemiStructuredLinear24,
    pattern_orthogonality_loss,
    similarity_floor,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def brute_force_loss(probs: list[torch.Tensor]) -> float:
    layers = []
    for pi in probs:
        owners, rows, groups, _ = pi.shape
        cells = []
        for j, g in itertools.product(range(rows), range(groups)):
            pairs = itertools.combinations(range(owners), 2)
            dots = [sum(float(p) * float(q) for p, q in zip(pi[a, j, g], pi[b, j, g], strict=True)) for a, b in pairs]
            cells.append(sum(dots) / len(dots))
        layers.append(sum(cells) / len(cells))
    return sum(layers) / len(layers)


def test_loss_equals_a_brute_force_loop():
    probs = [(torch.randn(4, j, g, 6) * 2).softmax(-1) for j, g in ((3, 2), (5, 1), (1, 4))]
    assert pattern_orthogonality_loss(probs).item() == pytest.approx(brute_force_loss(probs), rel=1e-5)


def test_loss_of_a_layers_own_probabilities_equals_a_brute_force_loop():
    layer = SemiStructuredLinear24(7, 3, 3, temperature=0.5)
    probs = [layer.pattern_probs(choice_only=True).detach()]
    assert pattern_orthogonality_loss(probs).item() == pytest.approx(brute_force_loss(probs), rel=1e-5)


def test_uniform_owners_give_a_sixth_and_disjoint_owners_zero():
    uniform = torch.full((3, 4, 2, 6), 1 / 6)
    assert pattern_orthogonality_loss([uniform]).item() == pytest.approx(1 / 6)
    disjoint = torch.eye(6)[:, None, None].expand(6, 4, 2, 6)
    assert pattern_orthogonality_loss([disjoint]).item() == pytest.approx(0.0, abs=1e-7)
    same = torch.eye(6)[torch.zeros(3, 4, 2, dtype=torch.long)]
    assert pattern_orthogonality_loss([same, uniform]).item() == pytest.approx((1 + 1 / 6) / 2)


def test_descent_on_the_loss_separates_owners():
    layer = SemiStructuredLinear24(8, 4, 3, temperature=1.0)
    optimizer = torch.optim.Adam([layer.hetero_alpha], lr=0.1)
    losses = []
    for _ in range(120):
        loss = pattern_orthogonality_loss([layer.pattern_probs()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1 / 6  # owners start alike
    assert losses[-1] < 0.9 / 6


def test_a_single_owner_gives_zero_with_a_gradient():
    layer = SemiStructuredLinear24(8, 4, 1)
    loss = pattern_orthogonality_loss([layer.pattern_probs()])
    assert loss.item() == 0.0
    loss.backward()
    assert (layer.hetero_alpha.grad == 0).all()


def test_layers_without_choice_do_not_count():
    narrow, wide = (SemiStructuredLinear24(width, 4, 3) for width in (2, 8))
    probs = [layer.pattern_probs(choice_only=True) for layer in (narrow, wide)]
    torch.testing.assert_close(pattern_orthogonality_loss(probs), pattern_orthogonality_loss(probs[1:]))
    nothing = pattern_orthogonality_loss(probs[:1])
    assert nothing.item() == 0.0
    nothing.backward()
    with pytest.raises(ConfigError):
        pattern_orthogonality_loss([])


def test_floor_is_the_pigeonhole_minimum():
    assert similarity_floor(10) == pytest.approx(4 / 45)
    for owners in range(1, 7):
        assert similarity_floor(owners) == 0.0
    for owners, patterns in ((4, 3), (5, 2), (7, 3)):
        best = min(
            sum(a == b for a, b in itertools.combinations(choice, 2)) / (owners * (owners - 1) / 2)
            for choice in itertools.product(range(patterns), repeat=owners)
        )
        assert similarity_floor(owners, patterns) == pytest.approx(best)


def test_coefficient_equals_a_brute_force_window():
    coefficient = AdaptiveDiversityCoefficient(0.4, window=100)
    td_losses, div_losses = torch.rand(250) * 10, -torch.rand(250) - 0.1
    for i in range(250):
        value = coefficient.update(td_losses[i], div_losses[i])
        td, div = (losses[max(0, i - 99) : i + 1].mean() for losses in (td_losses, div_losses))
        torch.testing.assert_close(value, (0.4 * td / div).abs(), rtol=1e-4, atol=1e-6)
    assert value > 0


def test_coefficient_has_no_gradient():
    coefficient = AdaptiveDiversityCoefficient(0.5)
    td, div = torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
    value = coefficient.update(td * 1.0, div * 1.0)
    assert not value.requires_grad
    (td + value * div).backward()
    assert div.grad.item() == pytest.approx(0.25)
    assert td.grad.item() == 1.0


@pytest.mark.parametrize(("td", "div"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_a_zero_mean_gives_div_coef(td, div):
    coefficient = AdaptiveDiversityCoefficient(0.3)
    for _ in range(3):
        value = coefficient.update(torch.tensor(td), torch.tensor(div))
    assert value.item() == pytest.approx(0.3)


def test_coefficient_resumes_from_its_state_dict():
    original, resumed = AdaptiveDiversityCoefficient(0.3, window=5), AdaptiveDiversityCoefficient(0.3, window=5)
    for i in range(8):
        original.update(torch.tensor(1.0 + i), torch.tensor(0.5))
    resumed.load_state_dict(original.state_dict())
    for i in range(7):
        losses = torch.tensor(3.0 * i), torch.tensor(0.1 + i)
        assert torch.equal(original.update(*losses), resumed.update(*losses))


def test_impossible_options_are_named():
    with pytest.raises(ConfigError, match="div_coef"):
        AdaptiveDiversityCoefficient(-1.0)
    with pytest.raises(ConfigError, match="window"):
        AdaptiveDiversityCoefficient(0.1, window=0)
