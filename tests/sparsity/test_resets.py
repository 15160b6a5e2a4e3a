"""Periodic resets, the selection rate behind them, and the activation average per owner."""

from __future__ import annotations

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import EMAActivationTracker, SemiStructuredLinear24

A, J = 3, 5
REAL = torch.ones(A, 6, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def learner_pass(layer: SemiStructuredLinear24) -> torch.Tensor:
    """Draws masks and uses them as the learner does; returns them."""
    made = layer.make_weights(explore=True)
    layer(torch.randn(A, 6, layer.in_features), made, track=REAL)
    return (made.weights != 0).float()


def test_the_selection_rate_is_a_moving_average_of_the_learners_draws():
    layer = SemiStructuredLinear24(7, J, A, temperature=1.0)
    expected = torch.full((A, J, 7), 0.5)
    assert torch.equal(layer.selection_rate, expected)
    for _ in range(5):
        expected = 0.99 * expected + 0.01 * learner_pass(layer)
    torch.testing.assert_close(layer.selection_rate, expected)


def test_rollouts_and_greedy_passes_do_not_move_the_selection_rate():
    layer = SemiStructuredLinear24(8, J, A)
    before = layer.selection_rate.clone()
    layer(torch.randn(A, 6, 8), layer.make_weights(explore=True))
    layer(torch.randn(A, 6, 8), layer.make_weights(explore=False))
    assert torch.equal(layer.selection_rate, before)


def test_the_selection_rate_of_a_weight_tends_to_its_probability():
    layer = SemiStructuredLinear24(8, J, A, temperature=1.0)
    with torch.no_grad():
        layer.hetero_alpha.normal_()
    for _ in range(600):
        layer.observe(torch.zeros(A, 0, 8), REAL[:, :0], layer.make_weights(explore=True))
    expected = (layer.pattern_probs() @ layer.patterns).flatten(2)
    torch.testing.assert_close(layer.selection_rate, expected.detach(), rtol=0, atol=0.15)
    assert (layer.selection_rate - 0.5).abs().max() > 0.3


@pytest.mark.parametrize("revive", ["dead", "random"])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_a_reset_redraws_that_share_of_every_owners_alpha(fraction, revive):
    layer = SemiStructuredLinear24(64, 32, A)
    with torch.no_grad():
        layer.hetero_alpha.fill_(7.0)
        layer.selection_rate.uniform_()
    redrawn = layer.reset_alpha(fraction, revive)
    assert (redrawn.flatten(1).sum(1) == round(fraction * 64 * 32)).all()
    assert (layer.hetero_alpha[~redrawn] == 7.0).all()
    assert (layer.hetero_alpha[redrawn].abs() < 0.1).all()
    assert (layer.selection_rate[redrawn] == 0.5).all()
    if fraction:
        assert layer.hetero_alpha[redrawn].std().item() == pytest.approx(0.01, rel=0.1)


def test_the_dead_are_those_least_often_selected():
    layer = SemiStructuredLinear24(16, J, A)
    layer.selection_rate.uniform_()
    rate = layer.selection_rate.clone()
    redrawn = layer.reset_alpha(0.25, "dead")
    for owner in range(A):
        assert rate[owner][redrawn[owner]].max() < rate[owner][~redrawn[owner]].min()


def test_among_equally_dead_weights_chance_decides():
    layer = SemiStructuredLinear24(64, 32, 1)
    layer.selection_rate.zero_()
    first = layer.reset_alpha(0.1)
    assert 0.3 < first[0, :16].float().sum() / first.sum() < 0.7  # not the first rows
    second = layer.reset_alpha(0.1)
    assert not (first & second).any()  # what was just revived is no longer dead


def test_a_reset_repeats_with_its_generator():
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        layer = SemiStructuredLinear24(16, J, A)
        torch.manual_seed(len(results))
        layer.reset_alpha(0.3, "random", torch.Generator().manual_seed(5))
        results.append(layer.hetero_alpha.detach().clone())
    assert torch.equal(*results)


def test_a_reset_gives_a_dead_weight_another_chance():
    layer = SemiStructuredLinear24(4, 1, 1, temperature=0.2)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.hetero_alpha.copy_(torch.tensor([4.0, 4.0, -4.0, -4.0]))
    for _ in range(50):
        layer.observe(torch.zeros(A, 0, 4), REAL[:, :0], layer.make_weights(explore=True))
    dead = (layer.pattern_probs() @ layer.patterns).flatten()[2:].max()
    redrawn = layer.reset_alpha(0.5)
    assert redrawn.flatten().tolist() == [False, False, True, True]
    assert (layer.hetero_alpha.flatten()[2:].abs() < 0.1).all()
    assert (layer.pattern_probs() @ layer.patterns).flatten()[2:].max() >= dead


def test_a_soft_reset_moves_the_average_a_tenth_of_the_way_to_its_mean():
    layer = SemiStructuredLinear24(4, J, A)
    layer.tracker.update(torch.tensor([[1.0, 2.0, 3.0, 6.0]]))
    layer.soft_reset_ema()
    torch.testing.assert_close(layer.tracker.value, torch.tensor([1.2, 2.1, 3.0, 5.7]))


def test_an_average_per_owner_follows_that_owners_inputs():
    layer = SemiStructuredLinear24(8, J, A, ema_per_owner=True)
    assert layer.tracker.value.shape == (A, 8)
    x = torch.randn(A, 6, 8) * torch.tensor([1.0, 10.0, 0.1]).view(A, 1, 1)
    real = torch.rand(A, 6) < 0.7
    real[2] = False
    layer.observe(x, real, layer.make_weights(explore=True))
    for owner in range(2):
        torch.testing.assert_close(layer.tracker.value[owner], x[owner][real[owner]].abs().mean(0))
    assert torch.equal(layer.tracker.value[2], torch.ones(8))  # no real row yet
    layer.observe(x, REAL, layer.make_weights(explore=True))
    torch.testing.assert_close(layer.tracker.value[2], x[2].abs().mean(0))  # its first update sets it
    scores = layer.weight.abs() * layer.tracker.value.unsqueeze(1) * layer.hetero_alpha.sigmoid()
    torch.testing.assert_close(layer.padded_scores(), scores)


def test_averages_per_owner_need_rows_of_every_owner():
    tracker = EMAActivationTracker(4, num_owners=2)
    with pytest.raises(ValueError, match="got the rows of 3 mask owners, expected those of 2"):
        tracker.update(torch.randn(3, 6, 4), torch.ones(3, 6))


def test_a_soft_reset_of_averages_per_owner_keeps_owners_apart():
    tracker = EMAActivationTracker(2, num_owners=2)
    tracker.update(torch.tensor([[[1.0, 3.0]], [[10.0, 30.0]]]))
    tracker.soft_reset(0.5)
    torch.testing.assert_close(tracker.value, torch.tensor([[1.5, 2.5], [15.0, 25.0]]))


@pytest.mark.parametrize(
    ("key", "arguments"), [("reset_fraction", (1.5,)), ("reset_fraction", (-0.1,)), ("revive", (0.1, "deda"))]
)
def test_impossible_resets_are_named(key, arguments):
    with pytest.raises(ConfigError, match=key):
        SemiStructuredLinear24(8, J, A).reset_alpha(*arguments)
