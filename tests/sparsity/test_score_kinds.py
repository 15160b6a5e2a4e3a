"""What decides masks: the method's product, or alpha alone; and how alike owners start."""

from __future__ import annotations

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import SemiStructuredLinear24

A, FEATURES, OUT = 4, 16, 32


def make(**options) -> SemiStructuredLinear24:
    torch.manual_seed(0)
    return SemiStructuredLinear24(FEATURES, OUT, A, temperature=0.5, compiled=False, **options)


def agreement(layer: SemiStructuredLinear24) -> float:
    patterns = layer.most_likely_patterns()
    pairs = [(a, b) for a in range(A) for b in range(a)]
    return sum((patterns[a] == patterns[b]).float().mean().item() for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("scores", ["alpha", "logits"])
def test_weights_do_not_decide_where_alpha_alone_does(scores: str) -> None:
    layer = make(scores=scores, alpha_std=1.0)
    before = layer.most_likely_patterns()
    with torch.no_grad():
        layer.weight.normal_(std=10.0)
    assert torch.equal(layer.most_likely_patterns(), before)


def test_weights_decide_with_the_methods_scores_and_small_alpha() -> None:
    layer = make()
    before = layer.most_likely_patterns()
    with torch.no_grad():
        layer.weight.normal_(std=10.0)
    assert (layer.most_likely_patterns() != before).any()
    assert agreement(layer) > 0.9


@pytest.mark.parametrize(("in_common", "low", "high"), [(0.0, 0.1, 0.25), (0.5, 0.3, 0.7), (1.0, 1.0, 1.0)])
def test_owners_start_as_alike_as_asked(in_common: float, low: float, high: float) -> None:
    layer = make(scores="alpha", alpha_std=1.0, alpha_in_common=in_common)
    assert low <= agreement(layer) <= high
    assert layer.hetero_alpha.std().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("scores", ["alpha", "logits"])
def test_the_gradient_reaches_alpha_and_weights_by_the_product_alone(scores: str) -> None:
    layer = make(scores=scores, alpha_std=1.0)
    made = layer.make_weights(explore=True)
    made.weights.square().sum().backward()
    assert (layer.hetero_alpha.grad != 0).any()
    kept = made.draw.masks.view(A, OUT, FEATURES).sum(0)
    torch.testing.assert_close(layer.weight.grad, 2 * layer.weight.detach() * kept)


def test_logits_are_sure_only_as_far_as_they_were_learned() -> None:
    """The others' normalisation makes the smallest difference decide."""
    small = {scores: make(scores=scores, alpha_std=1e-3).pattern_probs() for scores in ("alpha", "logits")}
    assert small["alpha"].max() > 0.8
    torch.testing.assert_close(small["logits"], torch.full_like(small["logits"], 1 / 6), atol=0.01, rtol=0)


def test_unknown_scores_are_named() -> None:
    with pytest.raises(ConfigError, match="scores: got 'alhpa', expected"):
        make(scores="alhpa")
