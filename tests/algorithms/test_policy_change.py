"""How far the team's behaviour moved between two batches."""

from __future__ import annotations

import math

import pytest
import torch

from k24_rllib import K24QMixConfig
from k24_rllib.algorithms.policy_change import FIRST_STEPS, PolicyChange, mean_policy, policy_divergence

T, B, N, U = 12, 3, 2, 4


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(T, B, N, U, generator=generator)
    available = torch.rand(T, B, N, U, generator=generator) < 0.8
    available[..., 0] = True
    available[:, :, 1, 3] = False  # never
    lengths = torch.tensor([12, 7, 3])
    valid = torch.arange(T).unsqueeze(1) < lengths
    available[~valid] = False  # as in padding
    return q, available, valid


def brute_force(q: torch.Tensor, available: torch.Tensor, valid: torch.Tensor) -> list[list[float]]:
    """Means of softmax policies of the real ones of the first 10 steps, by loops."""
    policies = []
    for agent in range(N):
        total, count = [0.0] * U, 0
        for t in range(10):
            for b in range(B):
                if not valid[t, b]:
                    continue
                powers = [math.exp(q[t, b, agent, u]) if available[t, b, agent, u] else 0.0 for u in range(U)]
                total = [mean + power / sum(powers) for mean, power in zip(total, powers, strict=True)]
                count += 1
        policies.append([value / count for value in total])
    return policies


def test_it_is_the_divergence_of_mean_softmax_policies() -> None:
    change = PolicyChange()
    assert change.divergence() == 0.0
    change.see(*batch(0))
    assert change.divergence() == 0.0
    change.see(*batch(1))
    before, now = brute_force(*batch(0)), brute_force(*batch(1))
    expected = sum(
        p * math.log(p / q) for ps, qs in zip(now, before, strict=True) for p, q in zip(ps, qs, strict=True) if p > 0
    )
    assert expected > 0.01
    assert float(change.divergence()) == pytest.approx(expected / N, rel=1e-4)
    assert FIRST_STEPS == 10


def test_only_the_last_two_batches_count() -> None:
    change, fresh = PolicyChange(), PolicyChange()
    for seed in range(4):
        change.see(*batch(seed))
        if seed == 1:
            change.divergence()
    fresh.see(*batch(2))
    fresh.see(*batch(3))
    assert float(change.divergence()) == float(fresh.divergence()) > 0
    restored = PolicyChange()
    restored.set_state(change.get_state(), torch.device("cpu"))
    assert float(restored.divergence()) == float(fresh.divergence())


def test_equal_policies_do_not_diverge_and_impossible_actions_do_no_harm() -> None:
    policy = mean_policy(*batch(0))
    torch.testing.assert_close(policy.sum(-1), torch.ones(N))
    assert policy[1, 3] == 0.0
    assert policy_divergence(policy, policy) == 0.0
    certain, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert policy_divergence(certain, other).isfinite()


def test_an_update_computes_nothing_that_nobody_asks_for(small, bare_policy, monkeypatch) -> None:
    calls = []
    import k24_rllib.algorithms.policy_change as module

    monkeypatch.setattr(module, "mean_policy", lambda *its: calls.append(1) or mean_policy(*its))
    policy, episodes = bare_policy(small(K24QMixConfig()).k24(total_env_steps=1000))
    for _ in range(5):
        policy.learn_on_batch(episodes)
    assert not calls
    policy.method_metrics()
    assert len(calls) == 2
