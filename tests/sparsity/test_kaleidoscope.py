"""Kaleidoscope's layer, its diversity loss, its resets and its metrics, against definitions written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import KaleidoscopeLinear, kaleidoscope_diversity_loss, kaleidoscope_metrics

A, J, I = 3, 5, 8  # noqa: E741


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pruning_layer(width: int = I, owners: int = A) -> KaleidoscopeLinear:
    """A layer that prunes about half of its weights, a different half for each owner."""
    layer = KaleidoscopeLinear(width, J, owners)
    with torch.no_grad():
        layer.thresholds.copy_(torch.logit(torch.rand(owners, J, width) * layer.weight.abs().max()))
    return layer


def by_definition(layer: KaleidoscopeLinear) -> Tensor:
    return torch.stack([layer.weight.sign() * (layer.weight.abs() - s.sigmoid()).relu() for s in layer.thresholds])


def test_weights_and_their_gradient_follow_the_definition():
    layer = pruning_layer()
    upstream = torch.randn(A, J, I)
    ours = layer.weights(explore=True)
    expected = by_definition(layer)
    torch.testing.assert_close(ours, expected)
    assert 0.2 < (ours == 0).float().mean() < 0.8
    gradients = (torch.autograd.grad((w * upstream).sum(), [layer.weight, layer.thresholds]) for w in (ours, expected))
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their)
    assert torch.equal(layer.weights(explore=False), ours)


def test_gradients_pass_a_numerical_check():
    layer = pruning_layer().double()
    # Away from the kink where a weight is just pruned
    with torch.no_grad():
        near = (layer.weight.abs() - layer.thresholds.sigmoid()).abs() < 1e-4
        layer.thresholds[near] -= 1.0

    def weights(weight: Tensor, thresholds: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "thresholds": thresholds}, (inputs,))

    inputs = torch.randn(A, 2, I, dtype=torch.float64)
    arguments = (layer.weight.detach().clone().requires_grad_(), layer.thresholds.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(weights, arguments)


def test_thresholds_start_low_and_prune_next_to_nothing():
    layer = KaleidoscopeLinear(64, 64, A)
    assert layer.thresholds.shape == (A, 64, 64)
    assert -10.0 <= layer.thresholds.min() < -9.9
    assert -5.1 < layer.thresholds.max() <= -5.0
    assert kaleidoscope_metrics([layer])["overall_sparsity"] < 0.05
    assert 0.95 / 8 < layer.weight.abs().max() <= 1 / 8
    custom = KaleidoscopeLinear(64, 64, A, threshold_scale=1.0, threshold_bias=2.0)
    assert -3.0 <= custom.thresholds.min() < custom.thresholds.max() <= -2.0


def test_masks_are_what_weights_keep_and_step_backward_is_a_tanh():
    layer = pruning_layer()
    masks, upstream = layer.masks(), torch.randn(A, J, I) * 3
    assert torch.equal(masks, (layer.weights(True) != 0).float())
    (masks * upstream).sum().backward()
    assert layer.weight.grad is None
    cut = layer.thresholds.sigmoid().detach()
    torch.testing.assert_close(layer.thresholds.grad, -upstream.tanh() * cut * (1 - cut))


def brute_force(layers: list[KaleidoscopeLinear], layer_weights: list[float]) -> Tensor:
    """Absolute differences over ordered pairs; their gradient is what the closed form must have, too."""
    total, owners = torch.zeros(()), layers[0].num_masks
    for layer, c in zip(layers, layer_weights, strict=True):
        masks = layer.masks()
        for a, b in itertools.permutations(range(owners), 2):
            total = total + c * (layer.weight.detach().abs() * (masks[a] - masks[b]).abs()).sum()
    return -total / (owners * (owners - 1)) / sum(layer.weight.numel() for layer in layers)


@pytest.mark.parametrize("owners", [2, 3, 5])
@pytest.mark.parametrize("layer_weights", [None, [1.0, 0.0, 3.0]])
def test_diversity_equals_a_brute_force_loop_in_value_and_gradient(layer_weights, owners):
    layers = [pruning_layer(width, owners) for width in (8, 3, 16)]
    thresholds = [layer.thresholds for layer in layers]
    ours = kaleidoscope_diversity_loss(layers, layer_weights)
    expected = brute_force(layers, layer_weights or [1.0, 2.0, 4.0])
    torch.testing.assert_close(ours, expected)
    assert ours < 0
    for our, their in zip(
        torch.autograd.grad(ours, thresholds), torch.autograd.grad(expected, thresholds), strict=True
    ):
        torch.testing.assert_close(our, their)


def test_equal_masks_and_a_single_owner_give_zero():
    layer = pruning_layer()
    with torch.no_grad():
        layer.thresholds.copy_(layer.thresholds[:1].expand(A, -1, -1).clone())
    assert kaleidoscope_diversity_loss([layer]) == 0.0
    assert kaleidoscope_diversity_loss([pruning_layer(owners=1)]) == 0.0


def test_descent_on_the_loss_drives_differing_owners_apart():
    layer = pruning_layer(owners=2)
    kept = layer.masks().detach().bool()
    kaleidoscope_diversity_loss([layer]).backward()
    differ = kept[0] != kept[1]
    assert differ.any()
    assert (layer.thresholds.grad[:, ~differ] == 0).all()
    assert (layer.thresholds.grad[kept & differ] > 0).all()  # keep it even more surely
    assert (layer.thresholds.grad[~kept & differ] < 0).all()  # prune it even more surely


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
def test_a_reset_revives_what_every_owner_has_pruned_and_nothing_else(fraction):
    layer = KaleidoscopeLinear(64, 64, A)
    dead = torch.rand(64, 64) < 0.5
    with torch.no_grad():
        layer.thresholds[:, dead] = 3.0
        layer.thresholds[0, ~dead] = 3.0  # one owner is not all
        layer.thresholds[1:, ~dead] = -20.0
    weight, thresholds = layer.weight.detach().clone(), layer.thresholds.detach().clone()
    revived = layer.reset(fraction)
    assert not (revived & ~dead).any()
    assert (revived.sum() / dead.sum()).item() == pytest.approx(fraction, abs=0.03)
    assert torch.equal(layer.weight[~revived], weight[~revived])
    assert torch.equal(layer.thresholds[:, ~revived], thresholds[:, ~revived])
    assert (layer.weight[revived] != weight[revived]).all()
    assert (layer.weight[revived].abs() <= 1 / 8).all()
    assert ((layer.thresholds[:, revived] <= -5) & (layer.thresholds[:, revived] >= -10)).all()


def test_a_reset_repeats_with_its_generator():
    results = []
    for call in range(2):
        torch.manual_seed(0)
        layer = KaleidoscopeLinear(16, J, A)
        with torch.no_grad():
            layer.thresholds.fill_(3.0)
        torch.manual_seed(call)
        layer.reset(0.5, torch.Generator().manual_seed(3))
        results.append(layer.weights(False))
    assert torch.equal(*results)


def test_metrics_count_by_hand():
    layers = [pruning_layer(width) for width in (8, 3)]
    metrics = kaleidoscope_metrics(layers)
    masks = [layer.masks().detach() for layer in layers]
    for i, mask in enumerate(masks):
        assert metrics[f"sparsity_layer_{i}"].item() == pytest.approx((mask == 0).float().mean().item())
    flat = torch.cat([mask.flatten(1) for mask in masks], 1)
    assert metrics["overall_sparsity"].item() == pytest.approx((flat == 0).float().mean().item())
    pairs = [(flat[a] != flat[b]).float().mean().item() for a, b in itertools.combinations(range(A), 2)]
    assert metrics["mask_difference"].item() == pytest.approx(sum(pairs) / len(pairs))
    assert metrics["dead_weights"].item() == pytest.approx((flat == 0).all(0).float().mean().item())
    assert not any(value.requires_grad for value in metrics.values())
    with pytest.raises(ConfigError):
        kaleidoscope_metrics([])


def test_the_layer_is_a_masked_layer():
    layer, other = pruning_layer(), pruning_layer()
    x = torch.randn(A, 4, I)
    expected = torch.stack([torch.nn.functional.linear(x[a], by_definition(layer)[a], layer.bias) for a in range(A)])
    torch.testing.assert_close(layer(x), expected)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weights(True), layer.weights(True))


def test_impossible_arguments_are_named():
    with pytest.raises(ConfigError, match="threshold_scale"):
        KaleidoscopeLinear(I, J, A, threshold_scale=-1.0)
    with pytest.raises(ConfigError, match="threshold_bias"):
        KaleidoscopeLinear(I, J, A, threshold_bias=math.nan)
    with pytest.raises(ConfigError, match="reset_fraction"):
        pruning_layer().reset(2.0)
    with pytest.raises(ConfigError, match="layer_weights"):
        kaleidoscope_diversity_loss([pruning_layer()], [1.0, 2.0])
    with pytest.raises(ConfigError, match="layers"):
        kaleidoscope_diversity_loss([])
