"""The TD loss against a slow reference that handles one episode and one step at a time, in plain Python numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from k24_rllib import QMixConfig
from k24_rllib.qmix.batch import TrainBatch
from k24_rllib.qmix.loss import (
    TeamValues,
    chosen_values,
    episode_priorities,
    greedy_actions,
    loss_metrics,
    masked_mean,
    qmix_loss,
    td_targets,
)

GAMMA = 0.9


def make_batch(rewards: Tensor, terminated: Tensor, valid: Tensor, **given: Tensor | None) -> TrainBatch:
    """A batch of which only what the loss reads is real."""
    nothing = torch.empty(0)
    rest = dict.fromkeys(("inputs", "groups", "state", "available", "actions", "observed"), nothing)
    return TrainBatch(rewards=rewards, terminated=terminated, valid=valid, **{**rest, "importance": None, **given})


# --- the slow reference: it shares no code with what it checks


def slow_targets(rewards, ended, following, trace: float, gamma: float) -> list[float]:
    """Targets of one episode's steps, from its last to its first."""
    targets: list[float] = []
    for t in reversed(range(len(rewards))):
        after = following[t] if not targets else (1 - trace) * following[t] + trace * targets[0]
        targets.insert(0, rewards[t] + (0.0 if ended[t] else gamma * after))
    return targets


def slow_qmix_loss(world: dict, mixers, trace: float, gamma: float = GAMMA) -> tuple[float, list[list[list[float]]]]:
    """Returns the loss and the TD errors `[B][T of the episode][K]` of double QMIX; loops over everything."""
    w = {name: value.tolist() for name, value in world.items()}
    mix, target_mix = mixers
    total, steps, all_errors = 0.0, 0, []
    for b, length in enumerate(w["lengths"]):
        chosen, following = [], []
        for t in range(length):
            agents = range(len(w["actions"][t][b]))
            chosen.append(mix([w["q"][t][b][n][w["actions"][t][b][n]] for n in agents], w["state"][t][b]))
            best = []
            for n in agents:
                values, allowed = w["q"][t + 1][b][n], w["available"][t + 1][b][n]
                best.append(max((u for u in range(len(values)) if allowed[u]), key=lambda u, values=values: values[u]))
            after = [w["target_q"][t + 1][b][n][best[n]] for n in agents]
            following.append(target_mix(after, w["state"][t + 1][b]))
        rewards = [w["rewards"][t][b] for t in range(length)]
        ended = [w["terminated"][t][b] for t in range(length)]
        values_a_step = len(chosen[0])
        targets = [slow_targets(rewards, ended, [f[k] for f in following], trace, gamma) for k in range(values_a_step)]
        errors = [[chosen[t][k] - targets[k][t] for k in range(values_a_step)] for t in range(length)]
        total += w["importance"][b] * sum(error**2 for step in errors for error in step) / values_a_step
        steps += length
        all_errors.append(errors)
    return total / steps, all_errors


def elu(x: float) -> float:
    return x if x > 0 else math.expm1(x)


def slow_monotonic(weights: dict[str, Tensor]):
    """A mixing network of two layers whose weights' absolute values come from the state."""
    w = {name: value.tolist() for name, value in weights.items()}

    def weight(state, row):
        return abs(sum(s * m for s, m in zip(state, row, strict=True)))

    def mix(agent_q, state):
        hidden = []
        for e in range(len(w["b1"])):
            parts = [q * weight(state, w["w1"][n][e]) for n, q in enumerate(agent_q)]
            hidden.append(elu(sum(parts) + w["b1"][e]))
        return [sum(h * weight(state, w["w2"][e]) for e, h in enumerate(hidden))]

    return mix


def monotonic(weights: dict[str, Tensor], agent_q: Tensor, state: Tensor) -> Tensor:
    first = torch.einsum("tbs,nes->tbne", state, weights["w1"]).abs()
    hidden = torch.nn.functional.elu(torch.einsum("tbn,tbne->tbe", agent_q, first) + weights["b1"])
    return torch.einsum("tbe,tbe->tb", hidden, torch.einsum("tbs,es->tbe", state, weights["w2"]).abs()).unsqueeze(-1)


def make_world(seed: int = 0) -> dict[str, Tensor]:
    """Five ragged episodes of three agents: two end for good, three are cut at the time limit."""
    generator = torch.Generator().manual_seed(seed)
    steps, episodes, agents, options, state = 6, 5, 3, 4, 2

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    available = torch.rand(steps + 1, episodes, agents, options, generator=generator) < 0.6
    available[..., 0] = True
    lengths = torch.tensor([6, 3, 1, 5, 6])
    last = torch.arange(steps).unsqueeze(1) == lengths - 1
    return {
        "q": normal(steps + 1, episodes, agents, options),
        "target_q": normal(steps + 1, episodes, agents, options),
        "state": normal(steps + 1, episodes, state),
        "available": available,
        "actions": torch.randint(options, (steps, episodes, agents), generator=generator),
        "rewards": normal(steps, episodes),
        "terminated": last & torch.tensor([False, True, False, True, False]),
        "lengths": lengths,
        "importance": torch.tensor([1.0, 0.25, 0.7, 0.1, 0.5], dtype=torch.float64),
    }


def make_mixing(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"w1": (3, 4, 2), "b1": (4,), "w2": (4, 2)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize("trace", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mixer", ["monotonic", "independent"])
def test_the_loss_and_its_errors_are_those_of_the_slow_reference(mixer: str, weighted: bool, trace: float) -> None:
    world = make_world()
    if not weighted:
        world["importance"] = torch.ones(5, dtype=torch.float64)
    if mixer == "monotonic":
        online, target = make_mixing(1), make_mixing(2)
        mix = [lambda q, state, w=w: monotonic(w, q, state) for w in (online, target)]
        slow_mix = [slow_monotonic(online), slow_monotonic(target)]
    else:
        mix, slow_mix = [lambda q, state: q] * 2, [lambda q, state: q] * 2
    best = greedy_actions(world["q"][1:], world["available"][1:])
    values = TeamValues(
        chosen=mix[0](chosen_values(world["q"][:-1], world["actions"]), world["state"][:-1]),
        next_values=mix[1](chosen_values(world["target_q"][1:], best), world["state"][1:]),
    )
    valid = torch.arange(6).unsqueeze(1) < world["lengths"]
    importance = world["importance"] if weighted else None
    batch = make_batch(world["rewards"], world["terminated"], valid, importance=importance)
    parts = qmix_loss(batch, values, gamma=GAMMA, td_lambda=trace)

    expected_loss, expected_errors = slow_qmix_loss(world, slow_mix, trace)
    assert parts.loss.item() == pytest.approx(expected_loss, rel=1e-12)
    assert parts.td_errors.shape == (6, 5, 3 if mixer == "independent" else 1)
    priorities = episode_priorities(parts.td_errors, valid)
    for b, errors in enumerate(expected_errors):
        found = parts.td_errors[: len(errors), b]
        torch.testing.assert_close(found, torch.tensor(errors, dtype=torch.float64), rtol=1e-12, atol=1e-12)
        sizes = [abs(error) for step in errors for error in step]
        assert priorities[b].item() == pytest.approx(sum(sizes) / len(sizes), rel=1e-12)


def test_the_policys_loss_is_that_of_the_slow_reference(small, bare_policy) -> None:
    """Through the networks and QMIX's own mixer: what the policy hands to the loss belongs together."""
    policy, episodes = bare_policy(small(QMixConfig()).training(standardise_rewards=False, td_lambda=0.3))
    episodes.lengths[:3] = (2, 4, 1)
    episodes.terminated[1, 3] = True
    batch = policy.train_batch(episodes)
    importance = torch.linspace(0.2, 1.0, 8)
    weights = policy.model.agent.weights(explore=True)
    target = policy.target_model
    with torch.no_grad():
        q = policy.online_values(batch, weights)
        target_weights = target.agent.weights(explore=False)
        hidden = target.initial_hidden(batch.groups)
        target_q, _ = target.unroll(batch.inputs, hidden, target_weights, batch.groups)

    def mixing(model):
        def mix(agent_q, state):
            with torch.no_grad():
                return model.mixer(torch.tensor(agent_q), torch.tensor(state)).tolist()

        return mix

    world = {
        "q": q,
        "target_q": target_q.permute(1, 2, 0, 3),
        "state": batch.state,
        "available": batch.available,
        "actions": batch.actions,
        "rewards": batch.rewards,
        "terminated": batch.terminated,
        "lengths": torch.from_numpy(episodes.lengths),
        "importance": importance,
    }
    mixers = [mixing(policy.model), mixing(policy.target_model)]
    expected, errors = slow_qmix_loss(world, mixers, 0.3, policy.config["gamma"])
    stats = policy.learn_on_batch(episodes, importance=importance.numpy())
    assert stats["loss_td"].item() == pytest.approx(expected, rel=1e-4)
    means = [sum(abs(error) for (error,) in steps) / len(steps) for steps in errors]
    assert policy.last_priorities().tolist() == pytest.approx(means, rel=1e-4)


# --- properties


def test_weights_of_one_are_no_weights_and_zero_silences_an_episode() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, chosen, following = (torch.randn(4, 3, 1, generator=generator) for _ in range(3))
    valid, terminated = torch.ones(4, 3, dtype=torch.bool), torch.zeros(4, 3, dtype=torch.bool)

    def loss_and_gradient(importance: Tensor | None) -> tuple[Tensor, Tensor]:
        values = TeamValues(chosen.clone().requires_grad_(), following)
        batch = make_batch(rewards[..., 0], terminated, valid, importance=importance)
        loss = qmix_loss(batch, values, gamma=GAMMA).loss
        loss.backward()
        return loss.detach(), values.chosen.grad

    plain, gradient = loss_and_gradient(None)
    same, same_gradient = loss_and_gradient(torch.ones(3))
    assert same == plain
    assert torch.equal(same_gradient, gradient)
    _, silenced = loss_and_gradient(torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(silenced, gradient * torch.tensor([1.0, 0.0, 0.5]).unsqueeze(-1))


def test_a_time_limit_bootstraps_and_a_termination_does_not() -> None:
    rewards = torch.ones(1, 2)
    terminated = torch.tensor([[False, True]])
    targets = td_targets(rewards, terminated, torch.full((1, 2, 1), 10.0), GAMMA)
    assert targets.flatten().tolist() == pytest.approx([10.0, 1.0])


@pytest.mark.parametrize("trace", [0.0, 0.5])
def test_padding_changes_neither_loss_nor_gradient_nor_priorities(trace: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, chosen, following = (torch.randn(4, 3, 1, generator=generator) for _ in range(3))
    valid = torch.ones(4, 3, dtype=torch.bool)
    valid[2:, 1] = False
    terminated = torch.zeros(4, 3, dtype=torch.bool)

    def outcome(padding: float) -> tuple[Tensor, ...]:
        rows = valid.unsqueeze(-1)
        values = TeamValues(
            torch.where(rows, chosen, padding).requires_grad_(), torch.where(rows, following, torch.tensor(padding))
        )
        batch = make_batch(torch.where(rows, rewards, padding)[..., 0], terminated, valid)
        parts = qmix_loss(batch, values, gamma=GAMMA, td_lambda=trace)
        parts.loss.backward()
        metrics = loss_metrics(parts, values, valid)
        return parts.loss.detach(), values.chosen.grad, episode_priorities(parts.td_errors, valid), *metrics.values()

    clean, garbage = outcome(0.0), outcome(1e3)
    assert (clean[1][2:, 1] == 0).all()
    for ours, theirs in zip(clean, garbage, strict=True):
        assert torch.equal(ours, theirs)


def test_no_gradient_flows_into_the_targets() -> None:
    valid = torch.ones(4, 3, dtype=torch.bool)
    values = TeamValues(*(torch.randn(4, 3, 1, requires_grad=True) for _ in range(2)))
    parts = qmix_loss(make_batch(torch.zeros(4, 3), ~valid, valid), values, gamma=GAMMA)
    parts.loss.backward()
    assert values.next_values.grad is None
    assert values.chosen.grad is not None
    assert not parts.td_errors.requires_grad
    assert not parts.targets.requires_grad


def test_independent_learners_average_over_agents() -> None:
    values = torch.tensor([[[1.0, 3.0]], [[100.0, 100.0]]])  # [T=2, B=1, K=2]
    assert masked_mean(values, torch.tensor([[True], [False]])).item() == 2.0


def test_agents_that_are_kept_apart_have_errors_of_their_own() -> None:
    chosen = torch.tensor([[[1.0, 5.0]]])  # [T=1, B=1, N=2]
    values = TeamValues(chosen, torch.zeros_like(chosen))
    valid = torch.ones(1, 1, dtype=torch.bool)
    parts = qmix_loss(make_batch(torch.ones(1, 1), ~valid, valid), values, gamma=GAMMA)
    assert parts.td_errors.tolist() == [[[0.0, 4.0]]]
    assert episode_priorities(parts.td_errors, valid).tolist() == [2.0]


def test_greedy_actions_are_available_even_when_worse() -> None:
    q = torch.tensor([5.0, 1.0, 3.0])
    assert greedy_actions(q, torch.tensor([False, True, True])).item() == 2
