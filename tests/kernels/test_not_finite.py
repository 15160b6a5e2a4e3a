"""Numbers that are none: the kernels show NaN and infinity where PyTorch does, and hide neither."""

import pytest
import torch
from torch import Tensor, nn

from k24_rllib import kernels
from k24_rllib.models.gru import GRU
from k24_rllib.sparsity import JointPatterns, SemiStructuredLinear24
from k24_rllib.sparsity.scores import EMAActivationTracker

OWNERS = 3
NAN, INF = float("nan"), float("inf")
BAD = (NAN, INF, -INF)
SIZES = ((21, 16), (16, 16), (7, 3), (6, 5), (9, 1), (2, 4), (1, 4))
"""Blocks of groups that are full and not, and last groups of every kind."""


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if kernels.library() is None:
        pytest.skip("no C compiler here")


def spoilt(compiled: bool, size: tuple[int, int], what: str, value: float, place: int):
    """Returns a layer one of whose numbers is `value`, and what makes its weights."""
    torch.manual_seed(0)
    layer = SemiStructuredLinear24(*size, OWNERS, temperature=0.3, compiled=compiled)
    layer.hetero_alpha.data.normal_()
    layer.tracker.value = torch.rand_like(layer.tracker.value) + 0.1
    numbers = {"weight": layer.weight.data, "alpha": layer.hetero_alpha.data, "ema": layer.tracker.value}[what]
    numbers.view(-1)[place % numbers.numel()] = value
    return layer, JointPatterns([layer])


def outputs(layer: SemiStructuredLinear24, joint: JointPatterns) -> list[Tensor]:
    """Returns likely weights, and of a draw the weights, probabilities, masks and both gradients."""
    with torch.no_grad():
        likely = joint.make_weights([layer], explore=False)[0][0].weights
    torch.manual_seed(1)
    (made,), probs = joint.make_weights([layer], explore=True)
    direction = torch.linspace(-1.0, 1.0, made.weights.numel()).view_as(made.weights)
    loss = (made.weights * direction).sum() + (probs * torch.linspace(0.0, 1.0, probs.numel()).view_as(probs)).sum()
    return [
        likely,
        made.weights,
        probs,
        made.draw.masks,
        *torch.autograd.grad(loss, [layer.weight, layer.hetero_alpha]),
    ]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("what", ["weight", "alpha", "ema"])
@pytest.mark.parametrize("value", BAD)
def test_patterns_show_it_where_pytorch_does(size: tuple[int, int], what: str, value: float) -> None:
    shown = 0
    for place in range(6):
        ours, theirs = (outputs(*spoilt(compiled, size, what, value, place)) for compiled in (True, False))
        for mine, its in zip(ours, theirs, strict=True):
            assert torch.equal(mine.isfinite(), its.isfinite())
            shown += int((~its.isfinite()).sum())
        if value != value:  # what infinity leaves of the others is an accident of PyTorch's product with 0
            both = ours[0].isfinite()
            assert torch.equal(ours[0][both], theirs[0][both])
        assert torch.equal(ours[3], theirs[3])
    assert (shown > 0) == (what != "alpha" or value != value)  # the sigmoid of infinity is 0 or 1


@pytest.mark.parametrize("value", BAD)
def test_a_weight_that_no_mask_keeps_is_seen(value: float) -> None:
    """Half of the weights are dropped; the product with 0 is NaN all the same."""
    for place in range(8):
        layer, joint = spoilt(True, (8, 16), "weight", value, place)
        with torch.no_grad():
            weights = joint.make_weights([layer], explore=False)[0][0].weights
        assert not weights[:, 0, place].isfinite().any()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("features", [3, 16, 85])
def test_the_moving_average_shows_it(value: float, real: bool, features: int) -> None:
    x, valid = torch.rand(2, 9, features), torch.ones(2, 9)
    x[1, 4, 2], valid[1, 4] = value, float(real)
    ours, theirs = EMAActivationTracker(features), EMAActivationTracker(features, compiled=False)
    for tracker in (ours, theirs):
        tracker.update(x, valid)
    assert torch.equal(ours.value.isfinite(), theirs.value.isfinite())
    assert ours.value.isfinite().sum() == features - 1


@pytest.mark.parametrize("hidden_size", [9, 16, 48])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("what", ["x", "hidden", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_the_recurrence_shows_it_where_pytorch_does(hidden_size: int, rows: int, what: str) -> None:
    for value in BAD:
        found = []
        for kind in (GRU, nn.GRU):
            torch.manual_seed(0)
            cell, x, hidden = kind(6, hidden_size), torch.randn(5, rows, 6), torch.randn(1, rows, hidden_size)
            numbers = {"x": x, "hidden": hidden}.get(what)
            (numbers if numbers is not None else cell.get_parameter(what).data).view(-1)[3] = value
            with torch.no_grad():
                unseen = cell(x, hidden)[0]
            states, _ = cell(x.requires_grad_(), hidden)
            found.append([states, unseen, *torch.autograd.grad(states.sum(), [x, *cell.parameters()])])
        for ours, theirs in zip(*found, strict=True):
            assert torch.equal(ours.isfinite(), theirs.isfinite())


def test_values_that_overflow_do_not_come_back_finite() -> None:
    """A state's share beyond float32, behind a closed gate: 0 times infinity, and not 1e-38 times it."""
    for kind in (GRU, nn.GRU):
        cell = kind(2, 16)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.fill_(-3e38)
        states, _ = cell(torch.ones(2, 1, 2), torch.full((1, 1, 16), 2.0))
        assert not states.isfinite().any()


@pytest.mark.parametrize("explore", [True, False])
def test_alpha_may_lie_in_any_order(explore: bool) -> None:
    """Parameters that were transposed or cut out give the same weights and gradients."""
    found = []
    for laid_out in (False, True):
        layer, joint = spoilt(True, (12, 8), "alpha", 0.5, 0)
        if laid_out:
            layer.hetero_alpha.data = layer.hetero_alpha.data.mT.contiguous().mT
            wide = torch.zeros(8, 24)
            wide[:, ::2] = layer.weight.data
            layer.weight.data = wide[:, ::2]
            assert not layer.hetero_alpha.is_contiguous()
            assert not layer.weight.is_contiguous()
        torch.manual_seed(1)
        with torch.set_grad_enabled(explore):
            (made,), _ = joint.make_weights([layer], explore)
        gradients = (
            torch.autograd.grad(made.weights.square().sum(), [layer.weight, layer.hetero_alpha])[:] if explore else ()
        )
        found.append([made.weights, *gradients])
    for plain, other in zip(*found, strict=True):
        assert torch.equal(plain, other)
