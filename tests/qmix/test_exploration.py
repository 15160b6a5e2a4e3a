"""Epsilon-greedy exploration."""

import pytest
import torch

from k24_rllib.qmix.exploration import epsilon_at, epsilon_greedy


def test_epsilon_falls_linearly_and_stays() -> None:
    values = [epsilon_at(step, 1.0, 0.05, 100) for step in (0, 50, 100, 1_000)]
    assert values == pytest.approx([1.0, 0.525, 0.05, 0.05])
    assert epsilon_at(0, 1.0, 0.1, 0) == 0.1


def test_random_actions_are_uniform_over_the_available_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = 30_000
    available = torch.tensor([True, False, True, True]).expand(rows, 4)
    actions = epsilon_greedy(torch.zeros(rows, 4), available, 1.0, generator)
    shares = torch.bincount(actions, minlength=4) / rows
    assert shares[1] == 0
    torch.testing.assert_close(shares[[0, 2, 3]], torch.full((3,), 1 / 3), atol=0.01, rtol=0)


def test_the_share_of_random_actions_is_epsilon() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = 30_000
    q = torch.tensor([0.0, 1.0]).expand(rows, 2)
    actions = epsilon_greedy(q, torch.ones(rows, 2, dtype=torch.bool), 0.4, generator)
    assert (actions == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)


def test_agents_explore_each_on_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.tensor([0.0, 1.0]).expand(1_000, 2, 2)
    actions = epsilon_greedy(q, torch.ones(1_000, 2, 2, dtype=torch.bool), 0.5, generator)
    assert 0 < (actions[:, 0] != actions[:, 1]).float().mean() < 1
