"""The compiled patterns against PyTorch's, which are their specification, with the same numbers drawn."""

import pytest
import torch

from k24_rllib import kernels
from k24_rllib.sparsity import JointPatterns, SemiStructuredLinear24
from k24_rllib.sparsity.scores import EMAActivationTracker

A = 3
RAGGED = ((21, 16), (16, 16), (7, 3), (6, 5), (1, 4), (2, 4), (4, 4))
"""Last groups of every kind, layers without any choice, and blocks of sixteen groups that are full and not."""
EXAMPLE = ((21, 64), (64, 64), (64, 64), (64, 5))


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if kernels.library() is None:
        pytest.skip("no C compiler here")


def pair(sizes=RAGGED, dead: bool = False, **options) -> list[tuple[list[SemiStructuredLinear24], JointPatterns]]:
    """Returns the same layers twice, compiled and not."""
    made = []
    for compiled in (True, False):
        torch.manual_seed(0)
        layers = [
            SemiStructuredLinear24(i, j, A, temperature=0.05 + 0.3 * k, compiled=compiled, **options)
            for k, (i, j) in enumerate(sizes)
        ]
        for layer in layers:
            layer.hetero_alpha.data.normal_()
            layer.tracker.value = torch.rand_like(layer.tracker.value) + 0.1
            if dead:
                layer.weight.data[0] = 0.0
        made.append((layers, JointPatterns(layers)))
    return made


CASES = [
    {"sizes": RAGGED},
    {"sizes": EXAMPLE},
    {"sizes": RAGGED, "ema_per_owner": True},
    {"sizes": RAGGED, "shared_mask": True},
    {"sizes": EXAMPLE, "dead": True},
    {"sizes": RAGGED, "scores": "alpha"},
    {"sizes": EXAMPLE, "scores": "alpha", "dead": True},
    {"sizes": RAGGED, "scores": "logits"},
    {"sizes": EXAMPLE, "scores": "logits"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_most_likely_weights_are_the_same(case: dict) -> None:
    with torch.no_grad():
        ours, theirs = (joint.make_weights(layers, explore=False)[0] for layers, joint in pair(**case))
    for mine, its in zip(ours, theirs, strict=True):
        assert torch.equal(mine.weights, its.weights)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_are_the_same_and_so_are_gradients(case: dict) -> None:
    found = []
    for layers, joint in pair(**case):
        torch.manual_seed(1)
        made, probs = joint.make_weights(layers, explore=True)
        torch.manual_seed(2)
        loss = sum((its.weights * torch.randn_like(its.weights)).sum() for its in made)
        loss = loss + (probs * torch.rand_like(probs)).sum()
        parameters = [tensor for layer in layers for tensor in (layer.weight, layer.hetero_alpha)]
        found.append((made, probs, torch.autograd.grad(loss, parameters), layers))
    (ours, our_probs, our_grads, mine), (theirs, their_probs, their_grads, others) = found
    for its, expected in zip(ours, theirs, strict=True):
        assert torch.equal(its.weights, expected.weights)
    torch.testing.assert_close(our_probs, their_probs, rtol=1e-5, atol=1e-6)
    for gradient, expected in zip(our_grads, their_grads, strict=True):
        assert gradient.isfinite().all()
        assert (gradient - expected).norm() <= 3e-6 * expected.norm() + 1e-12
    for layer, other, its, expected in zip(mine, others, ours, theirs, strict=True):
        assert torch.equal(layer.sample_argmax_agreement(its.draw), other.sample_argmax_agreement(expected.draw))
        for part, made in ((layer, its), (other, expected)):
            part.observe(torch.ones(1, 2, part.in_features).expand(A, -1, -1), torch.ones(A, 2), made)
        assert torch.equal(layer.selection_rate, other.selection_rate)


def test_an_unused_loss_gives_no_gradient() -> None:
    (layers, joint), _ = pair(EXAMPLE)
    made, probs = joint.make_weights(layers, explore=True)
    made[1].weights.sum().backward(retain_graph=True)
    assert (layers[0].weight.grad == 0).all()
    assert (layers[1].weight.grad != 0).any()
    only_probs = torch.autograd.grad((probs * torch.rand_like(probs)).sum(), layers[0].hetero_alpha)[0]
    assert only_probs.abs().sum() > 0


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    (layers, joint), (plain_layers, plain) = pair()
    for layer in (*layers, *plain_layers):
        layer.temperature = temperature
    torch.manual_seed(3)
    made, probs = joint.make_weights(layers, explore=True)
    torch.manual_seed(3)
    expected, expected_probs = plain.make_weights(plain_layers, explore=True)
    tolerance = 3e-7 / temperature  # of a logit of 2 divided by it, in float32
    torch.testing.assert_close(probs, expected_probs, rtol=max(1e-4, tolerance), atol=1e-6)
    assert all(torch.equal(mine.weights, its.weights) for mine, its in zip(made, expected, strict=True))
    sum(its.weights.square().sum() for its in made).backward()
    assert all(layer.hetero_alpha.grad.isfinite().all() for layer in layers)


@pytest.mark.parametrize("features", [3, 16, 64, 85, 150])
def test_the_moving_average_is_the_same(features: int) -> None:
    ours, theirs = EMAActivationTracker(features), EMAActivationTracker(features, compiled=False)
    generator = torch.Generator().manual_seed(0)
    for real in (0.0, 0.7, 0.0, 0.4, 1.0):  # no row at first: the average is still to be set
        x = torch.randn(2, 40, features, generator=generator)[:, 3:]  # agents lie apart in memory
        valid = torch.rand(2, 37, generator=generator) < real
        for tracker in (ours, theirs):
            tracker.update(x, valid)
        torch.testing.assert_close(ours.value, theirs.value, rtol=1e-6, atol=1e-7)
        assert ours.initialised == theirs.initialised
    assert ours.value.mean() != 1.0
