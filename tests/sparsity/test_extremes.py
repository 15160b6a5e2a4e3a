"""Numbers at the edges: groups of zeros, alpha beyond all bounds, temperatures that float32 can hardly hold."""

from __future__ import annotations

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import JointPatterns, KaleidoscopeLinear, SemiStructuredLinear, kaleidoscope_diversity_loss
from k24_rllib.sparsity.diversity import DIVERSITY_LOSSES

OWNERS = 3
CASES = {
    "zero weights": lambda layer: layer.weight.data.zero_(),
    "one weight of a group": lambda layer: layer.weight.data[:, 1:].zero_(),
    "alpha far below": lambda layer: layer.hetero_alpha.data.fill_(-1e6),
    "alpha far above": lambda layer: layer.hetero_alpha.data.fill_(1e6),
    "alpha far apart": lambda layer: layer.hetero_alpha.data.sign_().mul_(3e38),
    "tiny weights": lambda layer: layer.weight.data.mul_(1e-38),
    "large weights": lambda layer: layer.weight.data.mul_(1e37),
    "dead inputs": lambda layer: layer.tracker.value.zero_(),
    "large inputs": lambda layer: layer.tracker.value.fill_(1e37),
}


def make(compiled: bool, case: str, size: tuple[int, int], **options) -> tuple[SemiStructuredLinear, JointPatterns]:
    torch.manual_seed(0)
    layer = SemiStructuredLinear(*size, OWNERS, compiled=compiled, temperature=0.01, **options)
    layer.hetero_alpha.data.normal_()
    with torch.no_grad():
        CASES[case](layer)
    return layer, JointPatterns([layer])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(16, 8), (7, 3), (6, 5), (1, 4)], ids=str)
def test_weights_probabilities_and_gradients_stay_numbers(size: tuple[int, int], case: str, compiled: bool) -> None:
    layer, joint = make(compiled, case, size)
    with torch.no_grad():
        likely = joint.make_weights([layer], explore=False)[0][0].weights
    (made,), probs = joint.make_weights([layer], explore=True)
    direction = torch.linspace(-1.0, 1.0, made.weights.numel()).view_as(made.weights)
    scale = 1.0 / layer.weight.detach().abs().max().clamp(1e-30, 1e30)
    loss = (made.weights * scale * direction).sum() + joint.diversity("dot", [layer], probs)
    gradients = torch.autograd.grad(loss, [layer.weight, layer.hetero_alpha])
    for numbers in (likely, made.weights, probs, *gradients):
        assert numbers.isfinite().all()
    torch.testing.assert_close(probs.sum(0), torch.ones_like(probs[0]))
    kept = made.draw.masks.view(OWNERS, size[1], -1)[..., : size[0]].sum(-1)
    assert (kept == 2 * (size[0] // 4) + min(2, size[0] % 4)).all()
    assert torch.equal(likely, layer.weights(explore=False))


@pytest.mark.parametrize("sampling", ["tempered", "gumbel"])
@pytest.mark.parametrize("estimator", ["straight_through", "reinmax"])
@pytest.mark.parametrize("case", CASES)
def test_every_estimator_stays_finite(case: str, sampling: str, estimator: str) -> None:
    layer, joint = make(False, case, (16, 8), sampling=sampling, estimator=estimator)
    (made,), _ = joint.make_weights([layer], explore=True)
    scale = 1.0 / layer.weight.detach().abs().max().clamp(1e-30, 1e30)
    gradients = torch.autograd.grad((made.weights * scale).square().sum(), [layer.weight, layer.hetero_alpha])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", DIVERSITY_LOSSES)
def test_owners_that_are_certain_give_finite_gradients(name: str) -> None:
    certain = torch.eye(6)[torch.tensor([0, 0, 5])].T.unsqueeze(-1)  # [P, A, 1]
    pi = certain.clone().requires_grad_()
    patterns = SemiStructuredLinear(4, 1, OWNERS).patterns
    value = DIVERSITY_LOSSES[name](pi, torch.ones(4, 1), patterns).sum()
    (gradient,) = torch.autograd.grad(value, pi)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("temperature", [1e-30, 1e30])
def test_the_most_extreme_temperatures_give_probabilities(temperature: float, compiled: bool) -> None:
    layer, joint = make(compiled, "one weight of a group", (16, 8))
    layer.temperature = temperature
    _, probs = joint.make_weights([layer], explore=True)
    torch.testing.assert_close(probs.sum(0), torch.ones_like(probs[0]))


@pytest.mark.parametrize("temperature", [0.0, 1e-40, 1e-50, 1e39, 1e300, float("nan")])
def test_temperatures_that_float32_cannot_hold_are_refused(temperature: float) -> None:
    layer = SemiStructuredLinear(8, 4, OWNERS)
    with pytest.raises(ConfigError, match=r"^temperature: got "):
        layer.temperature = temperature
    assert layer.temperature == 5.0


@pytest.mark.parametrize("threshold", [-1e6, 0.0, 1e6])
@pytest.mark.parametrize("scale", [0.0, 1e-38, 1.0, 1e30])
def test_kaleidoscope_stays_finite(threshold: float, scale: float) -> None:
    layer = KaleidoscopeLinear(7, 5, OWNERS)
    with torch.no_grad():
        layer.thresholds.fill_(threshold)
        layer.weight.mul_(scale)
    loss = layer.weights(explore=True).sum() + kaleidoscope_diversity_loss([layer])
    gradients = torch.autograd.grad(loss, [layer.weight, layer.thresholds])
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
