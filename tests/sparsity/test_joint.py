"""All layers in one pass against each layer on its own."""

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import (
    DenseLinear,
    JointPatterns,
    SemiStructuredLinear,
    SemiStructuredLinear24,
    diversity_loss,
    pattern_orthogonality_loss,
)
from k24_rllib.sparsity.joint import draw_indices

A = 3
SIZES = ((21, 16), (16, 16), (7, 3), (6, 5), (1, 4), (2, 4), (4, 4))
"""Ragged last groups of every kind, and layers without any choice."""


def make(sampling: str = "tempered", sizes=SIZES, **options) -> tuple[list[SemiStructuredLinear24], JointPatterns]:
    torch.manual_seed(0)
    layers = [
        SemiStructuredLinear24(i, j, A, sampling=sampling, temperature=0.2 + 0.3 * k, **options)
        for k, (i, j) in enumerate(sizes)
    ]
    for layer in layers:
        layer.hetero_alpha.data.normal_()
    return layers, JointPatterns(layers)


def weights_of(joint: JointPatterns, layers, explore: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Returns the weights of each layer and what they were drawn from, without the records."""
    made, probs = joint.make_weights(layers, explore)
    return [its.weights for its in made], probs


def split(joint: JointPatterns, layers, probs: torch.Tensor) -> list[torch.Tensor]:
    """Returns `[A, J, G, P]` of each layer, for `[P, A, K]` of all together."""
    parts = probs.split([layer.out_features * layer.num_groups for layer in layers], 2)
    return [
        part.view(-1, A, layer.out_features, layer.num_groups).movedim(0, -1)
        for part, layer in zip(parts, layers, strict=True)
    ]


def test_most_likely_weights_are_each_layers_own() -> None:
    layers, joint = make()
    weights, probs = weights_of(joint, layers, explore=False)
    assert probs is None
    for layer, its in zip(layers, weights, strict=True):
        assert torch.equal(its, layer.weights(explore=False))


def test_probabilities_are_each_layers_own_at_its_temperature() -> None:
    layers, joint = make()
    _, probs = weights_of(joint, layers, explore=True)
    for layer, its in zip(layers, split(joint, layers, probs), strict=True):
        torch.testing.assert_close(its, layer.pattern_probs(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampling", ["tempered", "gumbel"])
def test_every_owner_keeps_two_of_four_and_padding_nothing(sampling: str) -> None:
    layers, joint = make(sampling)
    weights, _ = weights_of(joint, layers, explore=True)
    for layer, its in zip(layers, weights, strict=True):
        kept = (its != 0).sum(-1)
        ragged = layer.in_features % 4
        assert (kept == 2 * (layer.in_features // 4) + min(2, ragged)).all()


def test_draws_follow_the_probabilities() -> None:
    layers, joint = make(sizes=((8, 4), (6, 2)))
    with torch.no_grad():
        _, probs = weights_of(joint, layers, explore=True)
        masks = torch.stack([(weights_of(joint, layers, True)[0][0] != 0).float() for _ in range(4000)]).mean(0)
    expected = split(joint, layers, probs)[0] @ joint.patterns  # [A, J, G, 4]
    assert (masks.view(A, 4, 2, 4) - expected).abs().max() < 0.04


def test_agreement_is_the_loss_of_all_layers_with_its_gradient() -> None:
    layers, joint = make()
    parameters = [p for layer in layers for p in (layer.hetero_alpha, layer.weight)]
    _, probs = weights_of(joint, layers, explore=True)
    ours = joint.diversity("dot", layers, probs)
    theirs = pattern_orthogonality_loss([layer.pattern_probs(choice_only=True) for layer in layers])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (ours, theirs)]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(
            mine, torch.zeros_like(mine) if reference is None else reference, atol=1e-5, rtol=1e-3
        )


def test_the_gradient_of_the_weights_is_that_of_the_mean_mask() -> None:
    """Straight-through: `dL/d pi` is what it would be if the mask were `pi @ M`. Compiled, it is not to be seen."""
    layers, joint = make(sizes=((8, 4), (6, 2)), compiled=False)
    weights, probs = weights_of(joint, layers, explore=True)
    directions = [torch.randn_like(w) for w in weights]
    loss = sum((w * d).sum() for w, d in zip(weights, directions, strict=True))
    (got,) = torch.autograd.grad(loss, probs, retain_graph=True)
    for layer, direction, its in zip(layers, directions, split(joint, layers, got), strict=True):
        padded = torch.nn.functional.pad(direction * layer.weight.detach(), (0, -layer.in_features % 4))
        expected = padded.view(A, layer.out_features, layer.num_groups, 4) @ joint.patterns.mT
        torch.testing.assert_close(its, expected)


@pytest.mark.parametrize(
    "options",
    [{"n": 1}, {"n": 2, "m": 8}, {"n": 4, "m": 8}, {"shared_mask": True}, {"sampling": "gumbel"}],
    ids=str,
)
@pytest.mark.parametrize("estimator", ["straight_through", "reinmax"])
def test_other_kinds_are_each_layers_own_too(options: dict, estimator: str) -> None:
    torch.manual_seed(0)
    layers = [SemiStructuredLinear(i, j, A, estimator=estimator, **options) for i, j in ((21, 6), (16, 4), (7, 3))]
    joint = JointPatterns(layers)
    for layer, its in zip(layers, weights_of(joint, layers, explore=False)[0], strict=True):
        assert torch.equal(its, layer.weights(explore=False))
    weights, probs = weights_of(joint, layers, explore=True)
    sizes = [layer.out_features * layer.num_groups for layer in layers]
    for layer, its, pi in zip(layers, weights, probs.split(sizes, 2), strict=True):
        shape = (-1, layer.num_distinct, layer.out_features, layer.num_groups)
        torch.testing.assert_close(pi.view(shape).movedim(0, -1), layer.pattern_probs(), rtol=1e-4, atol=1e-5)
        ragged = layer.in_features % layer.m
        assert ((its != 0).sum(-1) == layer.n * (layer.in_features // layer.m) + min(layer.n, ragged)).all()
    gradients = torch.autograd.grad(sum(w.square().sum() for w in weights), [layer.hetero_alpha for layer in layers])
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["dot", "cosine", "js", "weighted"])
def test_every_diversity_loss_is_that_of_the_layers(name: str) -> None:
    layers, joint = make()
    _, probs = weights_of(joint, layers, explore=True)
    torch.testing.assert_close(joint.diversity(name, layers, probs), diversity_loss(name, layers), rtol=1e-4, atol=1e-6)


def test_the_selection_rate_follows_the_joint_draw() -> None:
    layers, joint = make(sizes=((8, 4), (6, 2)))
    made, _ = joint.make_weights(layers, explore=True)
    for layer, its in zip(layers, made, strict=True):
        layer.observe(torch.ones(A, 5, layer.in_features), torch.ones(A, 5, dtype=torch.bool), its)
        torch.testing.assert_close(layer.selection_rate, 0.99 * 0.5 + 0.01 * (its.weights != 0).float())


def test_each_layers_draw_is_handed_on() -> None:
    layers, joint = make(sizes=((8, 4), (6, 2)))
    layers[0].temperature, layers[1].temperature = 1e-3, 1e3
    made, _ = joint.make_weights(layers, explore=True)
    assert layers[0].sample_argmax_agreement(made[0].draw) == 1.0
    assert layers[1].sample_argmax_agreement(made[1].draw) < 1.0
    for layer, its in zip(layers, made, strict=True):
        kept = its.draw.masks.view(A, layer.out_features, -1)[..., : layer.in_features]
        assert torch.equal(its.weights, layer.weight * kept)
        assert torch.equal(its.draw.masks, layer.patterns[its.draw.drawn])
        assert its.draw.likelihood.shape == (6, A, layer.out_features * layer.num_groups)
        assert not any(t.requires_grad for t in (its.draw.likelihood, its.draw.drawn, its.draw.masks))
    assert all(its.draw is None for its in joint.make_weights(layers, explore=False)[0])


def test_layers_are_asked_for_their_joint_pass() -> None:
    layers, _ = make()
    assert isinstance(SemiStructuredLinear24.joint(layers), JointPatterns)
    assert DenseLinear.joint([DenseLinear(4, 4, A)]) is None

    class Own(SemiStructuredLinear24):
        """Might score or draw in a way of its own, so it is not passed over."""

    assert Own.joint([Own(4, 4, A)]) is None


def test_frozen_layers_are_asked_one_by_one() -> None:
    layers, joint = make()
    for layer in layers:
        layer.freeze_masks()
    made, probs = joint.make_weights(layers, explore=True)
    assert probs is None
    for layer, its in zip(layers, made, strict=True):
        assert its.draw is None
        assert torch.equal(its.weights, layer.weights(explore=False))


def test_a_pattern_without_probability_is_never_drawn() -> None:
    probs = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0, 0.0]).unsqueeze(1).expand(6, 200_000)
    counts = draw_indices(probs, torch.Generator().manual_seed(0)).bincount(minlength=6)
    assert counts[[0, 2, 4, 5]].sum() == 0
    assert abs(counts[1] / 200_000 - 0.3) < 0.005


def test_layers_must_be_of_a_kind() -> None:
    with pytest.raises(ConfigError, match="expected one for all"):
        JointPatterns([SemiStructuredLinear24(4, 4, 2), SemiStructuredLinear24(4, 4, 3)])
