"""Gradient estimators of a drawn pattern, against gradients computed by enumeration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import SemiStructuredLinear24, patterns, sample_patterns

ROWS = 60_000
COMBINATIONS = [
    ("tempered", "straight_through"),
    ("tempered", "reinmax"),
    ("gumbel", "straight_through"),
    ("gumbel", "reinmax"),
    ("gumbel", "rao_blackwell"),
]
TARGET = torch.tensor([0.3, -0.6, 0.8, 0.1])
MIX = torch.tensor([[1.0, -0.4, 0.2, 0.5], [0.3, 0.9, -0.7, 0.1], [-0.5, 0.2, 1.1, -0.3]])


def loss_of(pattern: Tensor, power: int) -> Tensor:
    """A loss that is not linear in the pattern `[..., 4]`, so that estimators differ; smooth between patterns."""
    return (((pattern - TARGET) @ MIX.T) ** power).sum(-1)


def exact_gradient(logits: Tensor, tau: float, power: int) -> Tensor:
    """The gradient of the expected loss, over all patterns."""
    theta = logits.clone().requires_grad_()
    expected = (theta / tau).softmax(-1) @ loss_of(torch.eye(4), power)
    return torch.autograd.grad(expected, theta)[0]


def gradients(logits: Tensor, tau: float, sampling: str, estimator: str, power: int, **options) -> Tensor:
    """The gradient that each of `ROWS` independent draws gives, `[ROWS, P]`."""
    torch.manual_seed(1)
    rows = logits.repeat(ROWS, 1).requires_grad_()
    drawn = sample_patterns(rows, tau, sampling, estimator=estimator, **options)
    return torch.autograd.grad(loss_of(drawn, power).sum(), rows)[0]


def bias(logits: Tensor, tau: float, sampling: str, estimator: str, power: int) -> float:
    exact = exact_gradient(logits, tau if sampling == "tempered" else 1.0, power)
    return float((gradients(logits, tau, sampling, estimator, power).mean(0) - exact).norm() / exact.norm())


LOGITS = torch.tensor([0.9, -0.2, 0.4, -1.1])


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_reinmax_is_exact_on_a_quadratic_loss_and_straight_through_is_not(tau):
    assert bias(LOGITS, tau, "tempered", "reinmax", 2) < 0.03
    assert bias(LOGITS, tau, "tempered", "straight_through", 2) > 0.1


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("power", [3, 4])
def test_reinmax_is_nearer_to_the_exact_gradient_than_straight_through(power, tau):
    plain, heun = (bias(LOGITS, tau, "tempered", estimator, power) for estimator in ("straight_through", "reinmax"))
    assert heun < 0.75 * plain


def test_reinmax_with_gumbel_draws_is_exact_on_a_quadratic_loss_at_temperature_one():
    assert bias(LOGITS, 1.0, "gumbel", "reinmax", 2) < 0.03
    assert bias(LOGITS, 1.0, "gumbel", "straight_through", 2) > 0.1


def test_reinmax_with_gumbel_draws_follows_its_algorithm():
    """The published form: `pi` half way is smoothed by the temperature, the last term is not."""
    tau, upstream = 2.0, torch.tensor([0.3, -1.0, 0.7, 0.2])
    logits = LOGITS.clone().requires_grad_()
    torch.manual_seed(3)
    drawn = sample_patterns(logits, tau, "gumbel", estimator="reinmax")
    ours = torch.autograd.grad((drawn * upstream).sum(), logits)[0]

    def through_softmax_at(p: Tensor) -> Tensor:
        return (torch.diag(p) - torch.outer(p, p)) @ upstream

    half_way = (drawn.detach() + (LOGITS / tau).softmax(-1)) / 2
    torch.testing.assert_close(ours, 2 * through_softmax_at(half_way) - through_softmax_at(LOGITS.softmax(-1)) / 2)


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_rao_blackwell_keeps_the_mean_and_lowers_the_variance(tau):
    plain = gradients(LOGITS, tau, "gumbel", "straight_through", 2)
    averaged = gradients(LOGITS, tau, "gumbel", "rao_blackwell", 2, rao_blackwell_samples=8)
    error = (plain.var(0) / ROWS + averaged.var(0) / ROWS).sqrt()
    assert ((plain.mean(0) - averaged.mean(0)).abs() < 4 * error).all()
    assert averaged.var(0).sum() < 0.9 * plain.var(0).sum()


def test_more_rao_blackwell_samples_leave_less_variance():
    few, many = (
        gradients(LOGITS, 0.5, "gumbel", "rao_blackwell", 2, rao_blackwell_samples=k).var(0).sum() for k in (1, 16)
    )
    plain = gradients(LOGITS, 0.5, "gumbel", "straight_through", 2).var(0).sum()
    assert many < 0.9 * few
    assert few.item() == pytest.approx(plain.item(), rel=0.05)  # one conditional sample is the plain estimator


@pytest.mark.parametrize(("sampling", "estimator"), COMBINATIONS)
@pytest.mark.parametrize("dim", [-1, 0])
def test_the_estimator_leaves_the_draws_alone(dim, sampling, estimator):
    logits = torch.randn(6, 50, 6, generator=torch.Generator().manual_seed(0))
    plain, other = (
        sample_patterns(logits, 0.7, sampling, torch.Generator().manual_seed(5), dim, estimator=which)
        for which in ("straight_through", estimator)
    )
    assert torch.equal(plain, other)


@pytest.mark.parametrize(("sampling", "estimator"), COMBINATIONS)
def test_illegal_patterns_get_no_gradient_and_the_others_one_that_is_finite(sampling, estimator):
    torch.manual_seed(2)
    legal = torch.tensor([True, True, False, True, False, False])
    logits = torch.randn(200, 6).masked_fill(~legal, -torch.inf).requires_grad_()
    drawn = sample_patterns(logits, 0.2, sampling, estimator=estimator)
    assert (drawn[:, ~legal] == 0).all()
    gradient = torch.autograd.grad((drawn * torch.randn(6)).sum(), logits)[0]
    assert gradient.isfinite().all()
    assert (gradient[:, ~legal] == 0).all()
    assert (gradient[:, legal] != 0).any()


@pytest.mark.parametrize(("sampling", "estimator"), COMBINATIONS)
def test_patterns_may_come_first(monkeypatch, sampling, estimator):
    torch.manual_seed(0)
    logits, cost, noise = torch.randn(5, 6), torch.randn(5, 6), torch.rand(10, 5, 6) + 0.1

    def same_noise(like: Tensor, generator: torch.Generator | None, copies: tuple[int, ...] = ()) -> Tensor:
        chosen = noise if copies else noise[0]
        return (chosen if like.shape == (5, 6) else chosen.mT).clone()

    monkeypatch.setattr(patterns, "_exponential_noise", same_noise)
    results = []
    for leaf, price, dim in ((logits.clone(), cost, -1), (logits.mT.clone(), cost.mT, 0)):
        drawn = sample_patterns(leaf.requires_grad_(), 0.8, sampling, dim=dim, estimator=estimator)
        results += [drawn, torch.autograd.grad((drawn * price).sum(), leaf)[0]]
    assert torch.equal(results[0], results[2].mT)
    torch.testing.assert_close(results[1], results[3].mT)
    assert (results[1].abs() > 1e-3).any()


@pytest.mark.parametrize(("sampling", "estimator"), COMBINATIONS)
@pytest.mark.parametrize("width", [7, 8])
def test_a_layer_learns_with_every_estimator(width, sampling, estimator):
    torch.manual_seed(0)
    layer = SemiStructuredLinear24(width, 5, 3, sampling=sampling, estimator=estimator, temperature=1.0)
    (layer.weights(explore=True) * torch.randn(3, 5, width)).sum().backward()
    for parameter in (layer.weight, layer.hetero_alpha):
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).any()


@pytest.mark.parametrize(("sampling", "estimator"), COMBINATIONS[1:])
def test_descent_with_every_estimator_finds_the_better_patterns(sampling, estimator):
    """Owners are paid for opposite weights: owner 0 for the first two of four, owner 1 for the last two."""
    torch.manual_seed(0)
    layer = SemiStructuredLinear24(8, 4, 2, sampling=sampling, estimator=estimator, temperature=1.0)
    wanted = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).repeat(1, 2).unsqueeze(1)  # [A, 1, I]
    optimizer = torch.optim.Adam([layer.hetero_alpha], lr=0.1)
    for _ in range(150):
        loss = (layer.masks(explore=True) - wanted).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (layer.masks(explore=False) == wanted).float().mean() > 0.85


def test_impossible_estimators_are_named():
    with pytest.raises(ConfigError, match="did you mean 'reinmax'"):
        sample_patterns(torch.zeros(6), 1.0, estimator="rein_max")
    with pytest.raises(ConfigError, match="no noise to average"):
        sample_patterns(torch.zeros(6), 1.0, "tempered", estimator="rao_blackwell")
    with pytest.raises(ConfigError, match="no noise to average"):
        SemiStructuredLinear24(8, 4, 2, estimator="rao_blackwell")
    with pytest.raises(ConfigError, match="rao_blackwell_samples"):
        SemiStructuredLinear24(8, 4, 2, sampling="gumbel", estimator="rao_blackwell", rao_blackwell_samples=0)
