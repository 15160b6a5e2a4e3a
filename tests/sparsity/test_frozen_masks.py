"""Masks that no longer change, that never did, and that all owners share."""

from __future__ import annotations

import copy

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import (
    MaskFlipTracker,
    SemiStructuredLinear,
    SemiStructuredLinear24,
    nm_patterns,
    pattern_metrics,
    pattern_orthogonality_loss,
)

A, J = 3, 5
WIDTHS = [2, 7, 8, 21]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def trained_layer(width: int = 21, **options) -> SemiStructuredLinear24:
    """A layer whose alpha, E and selection rate are no longer those of a fresh one."""
    layer = SemiStructuredLinear24(width, J, A, temperature=1.0, **options)
    with torch.no_grad():
        layer.hetero_alpha.normal_()
    learn_from(layer)
    return layer


def learn_from(layer: SemiStructuredLinear24) -> None:
    x = torch.randn(A, 9, layer.in_features) * torch.rand(layer.in_features)
    layer(x, layer.make_weights(explore=True), track=torch.ones(A, 9, dtype=torch.bool))


@pytest.mark.parametrize("width", WIDTHS)
def test_freezing_keeps_the_most_likely_masks_bit_for_bit(width):
    layer = trained_layer(width)
    masks, weights = layer.masks(explore=False), layer.weights(explore=False)
    assert not layer.frozen
    layer.freeze_masks()
    assert layer.frozen
    assert layer.frozen_mask.dtype == torch.bool
    with torch.no_grad():
        layer.hetero_alpha.normal_()  # learned or not, it no longer counts
    for explore in (True, False):
        assert torch.equal(layer.masks(explore), masks)
        assert torch.equal(layer.weights(explore), weights)
    layer.freeze_masks()
    assert torch.equal(layer.masks(explore=False), masks)


def test_a_frozen_layer_learns_its_weights_alone():
    layer = trained_layer()
    layer.freeze_masks()
    average, rate = layer.tracker.value.clone(), layer.selection_rate.clone()
    x = torch.randn(A, 9, 21) * 50
    layer(x, layer.make_weights(explore=True), track=torch.ones(A, 9, dtype=torch.bool)).square().sum().backward()
    assert layer.hetero_alpha.grad is None
    assert torch.equal(layer.tracker.value, average)
    assert torch.equal(layer.selection_rate, rate)
    kept_by_none = (layer.masks(explore=False).sum(0) == 0) & (layer.weight.grad != 0)
    assert not kept_by_none.any()
    assert (layer.weight.grad != 0).any()
    layer.soft_reset_ema()
    assert not layer.reset_alpha(0.5).any()
    assert torch.equal(layer.tracker.value, average)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_frozen_layers_distribution_is_its_mask(width):
    layer = trained_layer(width)
    best = layer.most_likely_patterns()
    padded = layer.padded_masks(explore=False)
    layer.freeze_masks()
    with torch.no_grad():
        layer.hetero_alpha.normal_()
    assert torch.equal(layer.most_likely_patterns(), best)
    assert torch.equal(layer.padded_masks(explore=True), padded)
    probs = layer.pattern_probs(choice_only=True)
    assert probs.shape == (A, J, layer.num_choice_groups, 6)
    assert torch.equal(probs.argmax(-1), best[..., : layer.num_choice_groups])
    assert ((probs == 0) | (probs == 1)).all()


def test_metrics_of_frozen_layers_describe_their_masks():
    layers = [trained_layer(width) for width in (8, 21)]
    tracker = MaskFlipTracker()
    tracker.update(layers)
    for layer in layers:
        layer.freeze_masks()
        with torch.no_grad():
            layer.hetero_alpha.normal_()
    assert tracker.update(layers) == 0.0
    metrics = pattern_metrics(layers)
    assert metrics["overall_sparsity"] == 0.5
    assert metrics["pattern_entropy"] == 0.0
    assert metrics["sample_argmax_agreement"] == 1.0
    same = []
    for layer in layers:
        best = layer.most_likely_patterns()[..., : layer.num_choice_groups]
        same.append(torch.stack([(best[a] == best[b]).float().mean() for a, b in ((0, 1), (0, 2), (1, 2))]).mean())
    torch.testing.assert_close(metrics["pattern_mean_similarity"], torch.stack(same).mean())


def test_states_from_before_and_after_freezing_load_into_a_fresh_layer():
    layer = trained_layer()
    before = copy.deepcopy(layer.state_dict())
    layer.freeze_masks()
    after = copy.deepcopy(layer.state_dict())
    assert set(after) - set(before) == {"frozen_mask"}
    for state, frozen in ((before, False), (after, True), (before, False)):
        for other in (SemiStructuredLinear24(21, J, A), copy.deepcopy(layer)):
            other.load_state_dict(state)
            assert other.frozen == frozen
            assert torch.equal(other.weights(explore=False), layer.weights(explore=False))
            assert torch.equal(other.weights(True), other.weights(True)) == frozen


def test_a_state_loads_into_a_layer_inside_a_network():
    layer = trained_layer()
    layer.freeze_masks()
    network, fresh = torch.nn.Sequential(layer), torch.nn.Sequential(SemiStructuredLinear24(21, J, A))
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh[0].weights(explore=True), layer.weights(explore=True))
    fresh[0].frozen_mask.logical_not_()  # its own memory
    assert not torch.equal(fresh[0].frozen_mask, layer.frozen_mask)


def test_a_deep_copy_is_frozen_too():
    layer = trained_layer()
    layer.freeze_masks()
    target = copy.deepcopy(layer).requires_grad_(False)
    assert target.frozen
    assert torch.equal(target.weights(explore=True), layer.weights(explore=True))


@pytest.mark.parametrize("shared_mask", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_fixed_random_masks_never_change(width, shared_mask):
    layer = SemiStructuredLinear24(width, J, A, masks="fixed_random", shared_mask=shared_mask)
    assert layer.frozen
    masks = layer.masks(explore=True)
    assert masks.shape == (A, J, width)
    assert (masks.sum(-1) == 2 * (width // 4) + min(2, width % 4)).all()
    learn_from(layer)
    with torch.no_grad():
        layer.hetero_alpha.normal_()
        layer.weight.normal_()
    assert torch.equal(layer.masks(explore=False), masks)
    assert torch.equal(layer.weights(explore=True), layer.weight * masks)
    if width == 21:
        assert torch.equal(masks[0], masks[1]) == shared_mask


def test_fixed_random_masks_are_uniform_over_patterns():
    layer = SemiStructuredLinear24(40, 1000, 1, masks="fixed_random")
    groups = layer.masks(explore=False).view(-1, 4)
    frequency = (groups.unsqueeze(1) == nm_patterns()).all(-1).float().mean(0)
    torch.testing.assert_close(frequency, torch.full((6,), 1 / 6), rtol=0, atol=0.02)


def test_a_fixed_layer_needs_its_mask_from_a_state():
    layer = SemiStructuredLinear24(8, J, A, masks="fixed_random")
    same = SemiStructuredLinear24(8, J, A, masks="fixed_random")
    same.load_state_dict(layer.state_dict())
    assert torch.equal(same.weights(True), layer.weights(True))
    with pytest.raises(RuntimeError, match="frozen_mask"):
        layer.load_state_dict(SemiStructuredLinear24(8, J, A).state_dict())


def test_owners_share_one_learned_mask():
    layer = SemiStructuredLinear24(21, J, A, shared_mask=True, temperature=1.0)
    assert layer.hetero_alpha.shape == (1, J, 21)
    for explore in (True, False):
        weights = layer.weights(explore)
        assert weights.shape == (A, J, 21)
        assert weights.stride(0) == 0  # no copies
        masks = layer.masks(explore)
        assert torch.equal(masks[0], masks[2])
    x = torch.randn(A, 7, 21)
    made = layer.make_weights(explore=True)
    expected = torch.stack([torch.nn.functional.linear(x[a], made.weights[a], layer.bias) for a in range(A)])
    torch.testing.assert_close(layer(x, made), expected)
    layer(x, made, track=torch.ones(A, 7, dtype=torch.bool)).square().sum().backward()
    assert (layer.hetero_alpha.grad != 0).any()
    assert layer.selection_rate.shape == (1, J, 21)
    layer.freeze_masks()
    assert layer.weights(explore=True).shape == (A, J, 21)


def test_owners_of_one_mask_have_nothing_to_diversify():
    layer = SemiStructuredLinear24(8, J, A, shared_mask=True)
    loss = pattern_orthogonality_loss([layer.pattern_probs()])
    assert loss == 0.0  # so there is no gradient either
    layer.freeze_masks()
    assert pattern_metrics([layer])["pattern_mean_similarity"] == 1.0


def test_impossible_options_are_named():
    with pytest.raises(ConfigError, match="did you mean 'fixed_random'"):
        SemiStructuredLinear(8, J, A, masks="random")
    with pytest.raises(ConfigError, match="shared_mask"):
        SemiStructuredLinear(8, J, A, shared_mask=1)
    with pytest.raises(ConfigError, match="ema_per_owner"):
        SemiStructuredLinear(8, J, A, shared_mask=True, ema_per_owner=True)
