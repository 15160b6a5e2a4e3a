"""Ratios other than 2:4 through the same layer."""

from __future__ import annotations

import math

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import NM_RATIOS, SemiStructuredLinear, SemiStructuredLinear24, nm_patterns, pattern_metrics

A, J = 3, 5
RATIOS = [*NM_RATIOS.values(), (1, 2), (3, 4)]
CASES = [(n, m, width) for n, m in RATIOS for width in (1, m - 1, m, m + 1, 2 * m + n, 2 * m + n + 1, 3 * m)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def kept_of_a_row(n: int, m: int, width: int) -> int:
    return n * (width // m) + min(n, width % m)


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize(("n", "m", "width"), CASES)
def test_exactly_n_of_every_m_are_kept(n, m, width, explore):
    layer = SemiStructuredLinear(width, J, A, n=n, m=m, temperature=1.0)
    for _ in range(5 if explore else 1):
        padded = layer.padded_masks(explore)
        assert padded.shape == (A, J, m * math.ceil(width / m))
        assert (padded.unflatten(-1, (-1, m)).sum(-1) == n).all()
        assert (layer.masks(explore).sum(-1) == kept_of_a_row(n, m, width)).all()
        assert ((layer.weights(explore) != 0).sum(-1) == kept_of_a_row(n, m, width)).all()


@pytest.mark.parametrize(("n", "m", "width"), CASES)
def test_the_largest_scores_of_a_group_are_the_most_likely_pattern(n, m, width):
    layer = SemiStructuredLinear(width, J, A, n=n, m=m)
    scores = layer.weight.abs() * layer.hetero_alpha.sigmoid()
    expected = torch.zeros(A, J, width)
    for start in range(0, width, m):
        group = scores[..., start : start + m]
        top = group.topk(min(n, group.shape[-1]), dim=-1).indices
        expected[..., start : start + m].scatter_(-1, top, 1.0)
    assert torch.equal(layer.masks(explore=False), expected)


@pytest.mark.parametrize(("n", "m", "width"), CASES)
def test_probabilities_gradients_and_choices(n, m, width):
    layer = SemiStructuredLinear(width, J, A, n=n, m=m, temperature=1.0)
    probs = layer.pattern_probs()
    count = math.comb(m, n)
    assert probs.shape == (A, J, math.ceil(width / m), count)
    torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:-1]))
    legal_last = math.comb(width % m or m, n) if (width % m or m) > n else 1
    assert ((probs[:, :, -1] > 0).sum(-1) == legal_last).all()
    assert layer.num_choice_groups == layer.num_groups - (legal_last == 1)
    (layer.weights(explore=True) * torch.randn(A, J, width)).sum().backward()
    chosen = m * layer.num_choice_groups
    assert layer.hetero_alpha.grad.isfinite().all()
    assert (layer.hetero_alpha.grad[..., chosen:] == 0).all()
    assert (layer.hetero_alpha.grad[..., :chosen] != 0).any() == (chosen > 0)


@pytest.mark.parametrize(("n", "m"), RATIOS)
def test_weights_start_at_the_scale_of_what_is_kept(n, m):
    layer = SemiStructuredLinear(256, 256, 1, n=n, m=m)
    bound = math.sqrt(m / n / 256)
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    ragged = SemiStructuredLinear(m + 1, 400, 1, n=n, m=m)
    assert 0.95 < ragged.weight.abs().max() * math.sqrt(n + 1) <= 1.0


def test_4_of_8_has_70_patterns_of_which_the_likely_are_drawn():
    layer = SemiStructuredLinear(64, 64, A, n=4, m=8, temperature=0.05)
    assert layer.patterns.shape == (70, 8)
    drawn, best = layer.masks(explore=True), layer.masks(explore=False)
    assert (drawn == best).float().mean() > 0.95
    draw = layer.make_weights(explore=True).draw
    kept = sum(t.numel() * t.element_size() for t in (draw.likelihood, draw.drawn, draw.masks))
    assert kept < 0.6e6  # bytes: one tensor the size of all patterns, for three owners of a 64 x 64 layer


def test_4_of_8_chooses_from_more_than_2_of_4():
    """Every 2:4 mask is a 4:8 mask, but not the other way round."""
    pairs = nm_patterns(4, 8)[:, :4].sum(1)
    assert set(pairs.int().tolist()) == {0, 1, 2, 3, 4}


def test_the_2_4_layer_is_the_general_one_at_2_and_4():
    torch.manual_seed(3)
    layer = SemiStructuredLinear24(21, J, A)
    torch.manual_seed(3)
    general = SemiStructuredLinear(21, J, A, n=2, m=4)
    assert isinstance(layer, SemiStructuredLinear)
    assert torch.equal(layer.weights(False), general.weights(False))
    assert "2:4" in repr(layer)


@pytest.mark.parametrize(("n", "m"), RATIOS)
def test_metrics_follow_the_ratio(n, m):
    layers = [SemiStructuredLinear(width, J, A, n=n, m=m) for width in (3 * m, 2 * m + n + 1)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
            layer.hetero_alpha.zero_()
    metrics = pattern_metrics(layers[:1])
    count = math.comb(m, n)
    assert metrics["overall_sparsity"].item() == pytest.approx(1 - n / m)
    assert metrics["pattern_entropy"].item() == pytest.approx(math.log2(count), rel=1e-5)
    assert metrics["pattern_mean_similarity"].item() == pytest.approx(1 / count, rel=1e-5)
    assert metrics[f"pattern_{count - 1}_prob"].item() == pytest.approx(1 / count, rel=1e-5)
    assert f"pattern_{count}_prob" not in metrics
    assert pattern_metrics(layers)["sparsity_layer_1"].item() == pytest.approx(1 - n / m)


@pytest.mark.parametrize(("key", "n", "m"), [("n", 4, 4), ("n", 0, 4), ("m", 2, 1), ("n", 1.5, 4)])
def test_impossible_ratios_are_named(key, n, m):
    with pytest.raises(ConfigError, match=f"^{key}:"):
        SemiStructuredLinear(8, J, A, n=n, m=m)
