"""The 2:4 layer and the dense layer behind the interface of a masked layer."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import DenseLinear, LayerWeights, MaskedLayer, SemiStructuredLinear24, nm_patterns

WIDTHS = [*range(1, 10), 21, 64]
RAGGED = [width for width in WIDTHS if width % 4]
A, J = 3, 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_layer(width: int = 8, **options) -> SemiStructuredLinear24:
    return SemiStructuredLinear24(width, J, A, **options)


@pytest.mark.parametrize("sampling", ["tempered", "gumbel"])
@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_exactly_two_of_every_four_are_kept(width, explore, sampling):
    layer = make_layer(width, sampling=sampling)
    groups = math.ceil(width / 4)
    for _ in range(20 if explore else 1):
        padded = layer.padded_masks(explore)
        assert padded.shape == (A, J, 4 * groups)
        assert ((padded == 0) | (padded == 1)).all()
        assert (padded.unflatten(-1, (groups, 4)).sum(-1) == 2).all()
        real = padded[..., :width]
        expected = 2 * (width // 4) + min(2, width % 4)
        assert (real.sum(-1) == expected).all()
        masks = layer.masks(explore)
        assert masks.shape == (A, J, width)
        assert (masks.sum(-1) == expected).all()
        assert ((layer.weights(explore) != 0).sum(-1) == expected).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_probabilities_are_those_of_the_most_likely_masks(width):
    layer = make_layer(width)
    layer.tracker.update(torch.randn(50, width))
    probs = layer.pattern_probs()
    assert probs.shape == layer.pattern_logits().shape == (A, J, math.ceil(width / 4), 6)
    torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:-1]))
    best = nm_patterns()[probs.argmax(-1)].flatten(2)
    assert torch.equal(layer.padded_masks(explore=False), best)


def test_the_two_largest_scores_of_a_group_are_the_most_likely_pattern():
    layer = make_layer(8)
    layer.tracker.update(torch.randn(10, 8))
    scores = layer.weight.abs() * layer.tracker.value * layer.hetero_alpha.sigmoid()
    top = scores.unflatten(-1, (2, 4)).topk(2, dim=-1).indices
    expected = torch.zeros(A, J, 2, 4).scatter_(-1, top, 1.0).flatten(2)
    assert torch.equal(layer.masks(explore=False), expected)


@pytest.mark.parametrize("width", RAGGED)
def test_patterns_that_prefer_padding_are_impossible(width):
    layer = make_layer(width)
    last = layer.pattern_probs()[:, :, -1]
    real = width % 4
    wasteful = nm_patterns()[:, :real].sum(1) < min(2, real)
    assert (last[..., wasteful] == 0).all()
    assert (layer.pattern_logits()[:, :, -1][..., wasteful] == -torch.inf).all()
    has_choice = real == 3
    assert layer.num_choice_groups == math.ceil(width / 4) - (not has_choice)
    assert layer.pattern_probs(choice_only=True).shape == (A, J, layer.num_choice_groups, 6)
    torch.testing.assert_close(
        layer.pattern_probs(choice_only=True), layer.pattern_probs()[:, :, : layer.num_choice_groups]
    )


@pytest.mark.parametrize("factor", [1e-4, 1e-12, 1e-20])
def test_scaling_the_weights_leaves_the_distribution_alone(factor):
    layer = make_layer(21)
    before, masks = layer.pattern_probs(), layer.masks(explore=False)
    with torch.no_grad():
        layer.weight.mul_(factor)
    torch.testing.assert_close(layer.pattern_probs(), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.masks(explore=False), masks)
    assert before.std() > 0.01


def test_wide_layers_are_not_uniform():
    layer = SemiStructuredLinear24(4096, 2, 2)
    with torch.no_grad():
        layer.weight.mul_(1e-4)
    assert layer.pattern_logits().var(-1, correction=0).median() > 0.99


@pytest.mark.parametrize("sampling", ["tempered", "gumbel"])
@pytest.mark.parametrize("width", [8, 7, 5])
@pytest.mark.parametrize("value", [0.0, 0.3, 1e-20])
def test_equal_scores_are_uniform_over_legal_patterns_without_nan(value, width, sampling):
    layer = make_layer(width, sampling=sampling)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.hetero_alpha.zero_()
    probs = layer.pattern_probs()
    legal = (probs > 0).float()
    torch.testing.assert_close(probs, legal / legal.sum(-1, keepdim=True))
    assert (legal[:, :, 0].sum(-1) == 6).all()
    (layer.weights(explore=True) * torch.randn(A, J, width)).sum().backward()
    assert layer.weight.grad.isfinite().all()
    assert layer.hetero_alpha.grad.isfinite().all()


def test_inputs_that_are_always_zero_are_harmless():
    layer = make_layer(8)
    x = torch.randn(A, 10, 8)
    x[..., :4] = 0.0
    layer(x, track=torch.ones(A, 10, dtype=torch.bool))
    assert (layer.tracker.value[:4] == 0).all()
    torch.testing.assert_close(layer.pattern_probs()[:, :, 0], torch.full((A, J, 6), 1 / 6))
    layer(x).square().sum().backward()
    assert layer.hetero_alpha.grad.isfinite().all()


def test_an_owners_change_leaves_the_others_alone():
    layer = make_layer(21)
    probs, masks, weights = layer.pattern_probs(), layer.masks(False), layer.weights(False)
    torch.manual_seed(1)
    drawn = layer.masks(True)
    with torch.no_grad():
        layer.hetero_alpha[1] += torch.randn(J, 21) * 3
    others = [0, 2]
    for before, after in (
        (probs, layer.pattern_probs()),
        (masks, layer.masks(False)),
        (weights, layer.weights(False)),
    ):
        assert torch.equal(before[others], after[others])
        assert not torch.equal(before[1], after[1])
    torch.manual_seed(1)
    assert torch.equal(drawn[others], layer.masks(True)[others])


def test_an_owners_loss_reaches_only_its_alpha():
    layer = make_layer(8)
    (layer.weights(explore=True)[1] * torch.randn(J, 8)).sum().backward()
    assert (layer.hetero_alpha.grad[1] != 0).any()
    assert (layer.hetero_alpha.grad[[0, 2]] == 0).all()


@pytest.mark.parametrize("sampling", ["tempered", "gumbel"])
@pytest.mark.parametrize("width", WIDTHS)
def test_straight_through_gradients_reach_alpha_and_weight(width, sampling):
    layer = make_layer(width, sampling=sampling)
    layer(torch.randn(A, 6, width), layer.make_weights(explore=True)).square().sum().backward()
    for parameter in (layer.weight, layer.hetero_alpha, layer.bias):
        assert parameter.grad.isfinite().all()
    assert (layer.weight.grad != 0).any()
    # Alpha gets none where there is nothing to choose
    chosen = 4 * layer.num_choice_groups
    assert (layer.hetero_alpha.grad[..., :chosen] != 0).any() == (layer.num_choice_groups > 0)
    assert (layer.hetero_alpha.grad[..., chosen:] == 0).all()


def test_weight_gradient_adds_the_masked_and_the_score_path():
    """The score path checked against pi written out: `d(W * mask) = mask dW + W dpi @ M`."""
    layer = make_layer(8, temperature=1.3)
    torch.manual_seed(5)
    weights = layer.weights(explore=True)
    upstream = torch.randn(A, J, 8)
    ours = torch.autograd.grad((weights * upstream).sum(), [layer.weight, layer.hetero_alpha])
    torch.manual_seed(5)
    drawn = layer.masks(explore=True).detach()
    relaxed = (layer.pattern_probs() @ nm_patterns()).flatten(2)
    surrogate = (layer.weight * drawn * upstream).sum() + (layer.weight.detach() * relaxed * upstream).sum()
    expected = torch.autograd.grad(surrogate, [layer.weight, layer.hetero_alpha])
    for our, their in zip(ours, expected, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


def test_greedy_masks_carry_no_gradient_to_alpha():
    layer = make_layer(8)
    layer.weights(explore=False).sum().backward()
    assert layer.hetero_alpha.grad is None
    torch.testing.assert_close(layer.weight.grad, layer.masks(False).sum(0))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [SemiStructuredLinear24, DenseLinear])
def test_forward_equals_a_linear_layer_per_owner(kind, bias):
    layer = kind(21, J, A, bias=bias)
    x = torch.randn(A, 7, 21)
    made = layer.make_weights(explore=True)
    expected = torch.stack([F.linear(x[a], made.weights[a], layer.bias) for a in range(A)])
    torch.testing.assert_close(layer(x, made), expected)
    torch.testing.assert_close(layer(x, LayerWeights(made.weights.clone())), expected)
    assert (layer.bias is not None) == bias


def test_rows_of_any_number_of_groups_where_all_owners_have_the_same_weights():
    for layer in (DenseLinear(8, J, A), SemiStructuredLinear24(8, J, A, shared_mask=True)):
        made = layer.make_weights(explore=True)
        x = torch.randn(A + 2, 3, 8)
        torch.testing.assert_close(layer(x, made), F.linear(x, made.weights[0], layer.bias))
        with pytest.raises(ValueError, match=r"expected \[5, rows, 8\]"):
            layer(torch.randn(A + 2, 3, 7), made)


def test_a_layer_that_says_only_what_its_weights_are_is_complete():
    class Scaled(MaskedLayer):
        def __init__(self) -> None:
            super().__init__(8, J, A)
            self.init_shared(8)

        def weights(self, explore: bool) -> torch.Tensor:
            return self.weight * torch.arange(1.0, A + 1).view(-1, 1, 1)

    layer, x = Scaled(), torch.randn(A, 3, 8)
    out = layer(x, layer.make_weights(explore=True), track=torch.ones(A, 3))
    for owner in range(A):
        torch.testing.assert_close(out[owner], F.linear((owner + 1) * x[owner], layer.weight, layer.bias))
    assert layer.num_distinct == A
    assert layer.joint([layer]) is None


def test_without_weights_training_draws_and_evaluation_does_not():
    layer = make_layer(64)
    x = torch.randn(A, 4, 64)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    torch.manual_seed(7)
    expected = layer.make_weights(explore=True)
    torch.manual_seed(7)
    torch.testing.assert_close(layer(x), layer(x, expected))
    layer.eval()
    torch.testing.assert_close(layer(x), layer(x, layer.make_weights(explore=False)))


@pytest.mark.parametrize("kind", [SemiStructuredLinear24, DenseLinear])
def test_an_owners_input_moves_only_its_output(kind):
    layer = kind(8, J, A)
    made, x = layer.make_weights(explore=True), torch.randn(A, 4, 8)
    changed = x.clone()
    changed[1] += 1.0
    before, after = layer(x, made), layer(changed, made)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("shape", [(A, 4, 7), (A + 1, 4, 8), (4, 8)])
def test_a_wrong_input_shape_is_named(shape):
    layer = make_layer(8)
    with pytest.raises(ValueError, match=r"expected \[3, rows, 8\]"):
        layer(torch.zeros(shape), layer.make_weights(False))


def test_only_a_tracked_forward_updates_the_average():
    layer = make_layer(8)
    x = torch.randn(A, 6, 8)
    layer.train()
    layer(x)
    layer.eval()
    layer(x)
    assert torch.equal(layer.tracker.value, torch.ones(8))
    real = torch.tensor([[True, True, False, False, False, True]])
    out = layer(x, layer.make_weights(explore=True), track=real)
    torch.testing.assert_close(layer.tracker.value, x[:, [0, 1, 5]].abs().mean((0, 1)))
    out.sum().backward()  # the update must not disturb the backward pass of weights made before it
    assert layer.hetero_alpha.grad.isfinite().all()


def test_dense_layer_shares_one_matrix():
    layer = DenseLinear(8, J, A)
    made = layer.make_weights(explore=True)
    weights = made.weights
    assert weights.shape == (A, J, 8)
    assert weights.data_ptr() == layer.weight.data_ptr()
    x = torch.randn(A, 4, 8)
    layer(x, made, track=torch.ones(A, 4, dtype=torch.bool)).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum((0, 1)).expand(J, 8))


def test_initial_values():
    layer = SemiStructuredLinear24(256, 512, 2)
    bound = math.sqrt(1 / 128)  # half of the inputs
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.95 * bound
    assert layer.hetero_alpha.std().item() == pytest.approx(0.01, rel=0.02)
    assert layer.hetero_alpha.mean().item() == pytest.approx(0.0, abs=2e-4)
    dense = DenseLinear(256, 512, 2)
    assert 0.95 / 16 < dense.weight.abs().max() <= 1 / 16


def test_outputs_keep_the_scale_of_a_dense_layer():
    x = torch.randn(2, 200, 256)
    masked, dense = (kind(256, 256, 2, bias=False) for kind in (SemiStructuredLinear24, DenseLinear))
    masked.temperature = 1e6  # any half of the weights, not the larger one
    drawn, expected = (layer(x, layer.make_weights(explore=True)).std().item() for layer in (masked, dense))
    assert drawn == pytest.approx(expected, rel=0.05)


def test_temperature_is_set_checked_and_saved():
    layer = make_layer(8)
    assert layer.temperature.item() == 5.0
    layer.set_temperature(0.5)
    assert layer.temperature.shape == ()
    layer.temperature = 0.25
    assert layer.state_dict()["temperature"].item() == 0.25
    for bad in (0.0, -1.0, math.nan, "hot", True):
        with pytest.raises(ConfigError, match="temperature"):
            layer.set_temperature(bad)
    with pytest.raises(ConfigError, match="temperature"):
        layer.temperature = 0
    assert layer.temperature.item() == 0.25


def test_a_colder_layer_is_greedier():
    layer = make_layer(64)
    agreement = []
    for tau in (100.0, 1.0, 0.2, 0.001):
        layer.temperature = tau
        draw = layer.make_weights(explore=True).draw
        agreement.append(layer.sample_argmax_agreement(draw).item())
    assert agreement == sorted(agreement)
    assert agreement[0] == pytest.approx(1 / 6, abs=0.1)
    assert agreement[-1] > 0.99


def test_agreement_compares_a_draw_with_the_most_likely_masks():
    layer = make_layer(21, temperature=1.0)
    assert layer.sample_argmax_agreement(None).isnan()
    draw = layer.make_weights(explore=True).draw
    drawn = draw.masks.view(A, J, -1)
    same = (drawn == layer.padded_masks(explore=False)).unflatten(-1, (6, 4)).all(-1)  # [A, J, G]
    expected = same[:, :, : layer.num_choice_groups].float().mean()
    agreement = layer.sample_argmax_agreement(draw)
    torch.testing.assert_close(agreement, expected)
    assert not agreement.requires_grad
    assert make_layer(2).sample_argmax_agreement(None) == 1.0
    assert layer.make_weights(explore=False).draw is None


def test_state_dict_round_trip_gives_the_same_masks():
    layer, other = make_layer(21), make_layer(21)
    layer.tracker.update(torch.randn(30, 21) * torch.rand(21))
    layer.temperature = 0.7
    layer.masks(explore=True)
    assert not torch.equal(layer.masks(False), other.masks(False))
    assert set(layer.state_dict()) == {
        "weight", "bias", "hetero_alpha", "temperature", "selection_rate", "tracker.value", "tracker.initialised",
    }  # fmt: skip
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer.masks(False), other.masks(False))
    assert torch.equal(layer.pattern_probs(), other.pattern_probs())
    assert torch.equal(copy.deepcopy(layer).weights(False), layer.weights(False))


def test_draws_repeat_with_torchs_seed():
    layer = make_layer(64)
    torch.manual_seed(11)
    first = layer.masks(True)
    second = layer.masks(True)
    torch.manual_seed(11)
    assert torch.equal(first, layer.masks(True))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("in_features", {"in_features": 0}),
        ("out_features", {"out_features": -1}),
        ("num_masks", {"num_masks": 0}),
        ("sampling", {"sampling": "temper"}),
        ("temperature", {"temperature": 0}),
        ("ema_momentum", {"ema_momentum": 2.0}),
    ],
)
def test_impossible_options_are_named(key, options):
    with pytest.raises(ConfigError, match=key):
        SemiStructuredLinear24(**{"in_features": 8, "out_features": 4, "num_masks": 2, **options})
