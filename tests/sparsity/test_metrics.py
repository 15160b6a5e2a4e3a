"""What is logged about masks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import MaskFlipTracker, SemiStructuredLinear24, pattern_metrics, pattern_orthogonality_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_layers(owners: int = 3, widths: tuple[int, ...] = (21, 64, 8, 2)) -> list[SemiStructuredLinear24]:
    return [SemiStructuredLinear24(width, 5, owners, temperature=0.7) for width in widths]


def test_sparsity_is_exactly_half():
    metrics = pattern_metrics(make_layers())
    for key in (*(f"sparsity_layer_{i}" for i in range(4)), "overall_sparsity"):
        assert metrics[key].item() == 0.5
    assert "sparsity_layer_4" not in metrics


def test_values_equal_a_brute_force_loop():
    layers = make_layers(owners=4, widths=(8, 7))
    metrics = pattern_metrics(layers)
    probs = [layer.pattern_probs() for layer in layers]
    for k in range(6):
        expected = sum(pi[..., k].mean().item() for pi in probs) / 2
        assert metrics[f"pattern_{k}_prob"].item() == pytest.approx(expected, rel=1e-5)
    entropies = [sum(-p * math.log2(p) for p in pi.flatten().tolist() if p > 0) / pi[..., 0].numel() for pi in probs]
    assert metrics["pattern_entropy"].item() == pytest.approx(sum(entropies) / 2, rel=1e-5)
    pairs = [
        sum((pi[a] * pi[b]).sum(-1).mean().item() for pi in probs) / 2 for a, b in itertools.combinations(range(4), 2)
    ]
    assert metrics["pattern_mean_similarity"].item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    assert metrics["pattern_max_similarity"].item() == pytest.approx(max(pairs), rel=1e-5)
    assert metrics["pattern_min_similarity"].item() == pytest.approx(min(pairs), rel=1e-5)
    assert max(pairs) > min(pairs)


def test_mean_similarity_is_the_diversity_loss():
    layers = make_layers()
    loss = pattern_orthogonality_loss([layer.pattern_probs(choice_only=True) for layer in layers])
    torch.testing.assert_close(pattern_metrics(layers)["pattern_mean_similarity"], loss.detach())


def test_uniform_patterns():
    layers = make_layers(owners=10, widths=(8,))
    with torch.no_grad():
        layers[0].weight.fill_(1.0)
        layers[0].hetero_alpha.zero_()
    metrics = pattern_metrics(layers)
    assert metrics["pattern_entropy"].item() == pytest.approx(math.log2(6))
    for key in ("pattern_mean_similarity", "pattern_max_similarity", "pattern_min_similarity", "pattern_3_prob"):
        assert metrics[key].item() == pytest.approx(1 / 6)
    assert metrics["similarity_floor"].item() == pytest.approx(4 / 45)


def test_agreement_is_the_layers_mean():
    layers = make_layers(widths=(21, 64))
    draws = [layer.make_weights(explore=True).draw for layer in layers]
    expected = sum(layer.sample_argmax_agreement(draw) for layer, draw in zip(layers, draws, strict=True)) / 2
    torch.testing.assert_close(pattern_metrics(layers, draws)["sample_argmax_agreement"], expected)
    assert pattern_metrics(layers)["sample_argmax_agreement"].isnan()


def test_all_are_finite_scalars_without_gradient_even_for_one_owner():
    layers = make_layers(owners=1)
    draws = [layer.make_weights(explore=True).draw for layer in layers]
    for key, value in pattern_metrics(layers, draws).items():
        assert value.shape == (), key
        assert value.isfinite(), key
        assert not value.requires_grad, key
    with pytest.raises(ConfigError):
        pattern_metrics([])


def test_flip_rate_is_the_share_of_groups_that_changed():
    layers = make_layers(owners=2, widths=(8, 5))
    for layer in layers:
        with torch.no_grad():
            layer.hetero_alpha.zero_()
            layer.weight.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0, 1.0])[: layer.in_features])
    tracker = MaskFlipTracker()
    assert tracker.update(layers) == 0.0
    assert tracker.update(layers) == 0.0
    with torch.no_grad():
        layers[0].hetero_alpha[1, 2, 3] = 50.0
        layers[0].hetero_alpha[1, 2, :3] = -50.0  # owner 1, row 2, first group: 1001 instead of 1100
    # 2 owners x 5 rows x (2 groups of the first layer + 1 with a choice of the second)
    assert tracker.update(layers).item() == pytest.approx(1 / 30)
    assert tracker.update(layers) == 0.0
