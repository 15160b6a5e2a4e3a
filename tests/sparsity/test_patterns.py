"""Module B without a layer: patterns, their logits and draws."""

from __future__ import annotations

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import nm_patterns, normalize_logits, sample_patterns

DRAWS = 40_000


def draw_frequencies(logits: torch.Tensor, tau: float, sampling: str, dim: int = -1) -> torch.Tensor:
    """Frequencies of `DRAWS` independent draws from one group's logits."""
    torch.manual_seed(3)
    many = logits.expand(DRAWS, -1)
    drawn = sample_patterns(many.mT if dim == 0 else many, tau, sampling, dim=dim)
    return (drawn.mT if dim == 0 else drawn).mean(0)


def chi_square(observed: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's statistic over patterns expected at least five times, the rest pooled into one."""
    observed, expected = observed.double() * DRAWS, expected.double() * DRAWS
    common = expected >= 5
    rest = torch.stack((observed[~common].sum(), expected[~common].sum()))
    statistic = ((observed[common] - expected[common]).square() / expected[common]).sum()
    if rest[1] > 0:
        statistic = statistic + (rest[0] - rest[1]).square() / rest[1].clamp_min(1.0)
    return float(statistic)


def test_patterns_come_in_the_published_order():
    rows = ["".join(str(int(keep)) for keep in row) for row in nm_patterns()]
    assert rows == ["1100", "1010", "1001", "0110", "0101", "0011"]


@pytest.mark.parametrize(("n", "m", "count"), [(1, 4, 4), (2, 5, 10), (3, 3, 1)])
def test_patterns_of_other_ratios(n, m, count):
    patterns = nm_patterns(n, m)
    assert patterns.shape == (count, m)
    assert (patterns.sum(1) == n).all()
    assert len(patterns.unique(dim=0)) == count


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (2, 0), (1.5, 4)])
def test_impossible_ratios_are_refused(n, m):
    with pytest.raises(ConfigError):
        nm_patterns(n, m)


def test_normalised_logits_have_zero_mean_and_unit_variance_at_every_scale():
    torch.manual_seed(0)
    raw = torch.rand(50, 6, dtype=torch.float32) + 0.1
    expected = (raw - raw.mean(-1, keepdim=True)) / raw.var(-1, correction=0, keepdim=True).sqrt()
    for factor in (1.0, 1e-4, 1e-12, 1e-20, 1e12):
        torch.testing.assert_close(normalize_logits(raw * factor), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(normalize_logits(raw.mT, dim=0).mT, normalize_logits(raw))


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-20, 3e-33, 7e5, -2.0])
def test_equal_logits_are_uniform_and_their_gradient_is_finite(value):
    logits = torch.full((2, 6), value, requires_grad=True)
    probs = normalize_logits(logits).softmax(-1)
    torch.testing.assert_close(probs, torch.full((2, 6), 1 / 6))
    (probs * torch.arange(6.0)).sum().backward()
    assert logits.grad.isfinite().all()


def test_gradient_of_normalisation_matches_a_plain_standardisation():
    torch.manual_seed(1)
    raw = torch.rand(7, 6, dtype=torch.float64)
    target = torch.randn(7, 6, dtype=torch.float64)
    ours, plain = raw.clone().requires_grad_(), raw.clone().requires_grad_()
    (normalize_logits(ours) * target).sum().backward()
    centred = plain - plain.mean(-1, keepdim=True)
    (centred / centred.square().mean(-1, keepdim=True).sqrt() * target).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-5, atol=1e-7)


def test_illegal_patterns_do_not_count_and_cannot_be_drawn():
    torch.manual_seed(2)
    legal = torch.tensor([True, True, False, True, False, False])
    raw = torch.rand(2000, 6, requires_grad=True)
    logits = normalize_logits(raw, legal)
    assert (logits[:, ~legal] == -torch.inf).all()
    torch.testing.assert_close(logits[:, legal], normalize_logits(raw[:, legal]), rtol=1e-4, atol=1e-4)
    for sampling in ("tempered", "gumbel"):
        drawn = sample_patterns(logits, 5.0, sampling)
        assert (drawn[:, ~legal] == 0).all()
        (drawn * torch.randn(6)).sum().backward(retain_graph=True)
    assert raw.grad.isfinite().all()
    assert (raw.grad[:, ~legal] == 0).all()
    assert (raw.grad[:, legal] != 0).any()


@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("tau", [5.0, 0.2])
def test_tempered_draws_follow_pi(tau, dim):
    logits = normalize_logits(torch.tensor([0.9, 1.0, 1.1, 1.15, 1.2, 1.21]))
    pi = (logits / tau).softmax(-1)
    # 20.5 is the 99.9% quantile of chi-square with 5 degrees of freedom
    assert chi_square(draw_frequencies(logits, tau, "tempered", dim), pi) < 20.5


def test_gumbel_draws_do_not_depend_on_temperature():
    logits = normalize_logits(torch.tensor([0.9, 1.0, 1.1, 1.15, 1.2, 1.21]))
    hot, cold = (draw_frequencies(logits, tau, "gumbel") for tau in (5.0, 0.2))
    torch.testing.assert_close(hot, cold, rtol=0, atol=0)
    assert chi_square(hot, logits.softmax(-1)) < 20.5
    assert chi_square(hot, (logits / 5.0).softmax(-1)) > 1000


@pytest.mark.parametrize("sampling", ["tempered", "gumbel"])
def test_draws_are_one_hot_and_repeat_with_their_generator(sampling):
    logits = torch.randn(4, 5, 6)
    first, second = (sample_patterns(logits, 1.0, sampling, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first.sum(-1), torch.ones(4, 5))
    assert ((first == 0) | (first == 1)).all()


def test_tempered_gradient_is_that_of_pi():
    torch.manual_seed(4)
    logits, cost = torch.randn(30, 6, requires_grad=True), torch.randn(30, 6)
    (sample_patterns(logits, 0.7) * cost).sum().backward()
    expected = torch.autograd.grad(((logits / 0.7).softmax(-1) * cost).sum(), logits)[0]
    torch.testing.assert_close(logits.grad, expected)


def test_unknown_sampling_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'gumbel'"):
        sample_patterns(torch.zeros(6), 1.0, "gumble")
