"""The TD loss against a slow reference that handles one episode and one step at a time."""

import pytest
import torch

from k24_rllib.qmix.loss import chosen_values, greedy_actions, masked_mean, td_loss, td_targets

GAMMA = 0.9


def reference_loss(q, target_q, actions, available, rewards, terminated, lengths, mix, target_mix, states):
    """Squared TD errors of double Q-learning, averaged over the steps really taken; loops over everything."""
    errors = []
    for b, length in enumerate(lengths):
        for t in range(length):
            agents = range(q.shape[2])
            chosen = mix([q[t, b, n, actions[t, b, n]] for n in agents], states[t, b])
            best = [
                max(
                    (u for u in range(q.shape[3]) if available[t + 1, b, n, u]),
                    key=lambda u, n=n: q[t + 1, b, n, u].item(),
                )
                for n in agents
            ]
            after = target_mix([target_q[t + 1, b, n, best[n]] for n in agents], states[t + 1, b])
            bootstrap = 0.0 if terminated[t, b] else GAMMA * after
            errors.append((rewards[t, b] + bootstrap - chosen) ** 2)
    return sum(errors) / len(errors)


def test_loss_equals_the_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    steps, episodes, agents, options = 6, 5, 3, 4
    q = torch.randn(steps + 1, episodes, agents, options, generator=generator)
    target_q = torch.randn(q.shape, generator=generator)
    available = torch.rand(q.shape, generator=generator) < 0.6
    available[..., 0] = True
    actions = torch.randint(options, (steps, episodes, agents), generator=generator)
    rewards = torch.randn(steps, episodes, generator=generator)
    lengths = torch.tensor([6, 3, 1, 5, 6])
    clock = torch.arange(steps).unsqueeze(1)
    valid = clock < lengths
    # Episodes 1 and 3 end for good, the others at the time limit.
    terminated = (clock == lengths - 1) & torch.tensor([False, True, False, True, False])
    states = torch.rand(steps + 1, episodes, generator=generator)

    def mix(values, state):
        return sum(values) * (1 + state)

    chosen = mix(list(chosen_values(q[:-1], actions).unbind(-1)), states[:-1]).unsqueeze(-1)
    best = greedy_actions(q[1:], available[1:])
    following = mix(list(chosen_values(target_q[1:], best).unbind(-1)), states[1:]).unsqueeze(-1)
    loss = td_loss(chosen, td_targets(rewards, terminated, following, GAMMA), valid)
    expected = reference_loss(q, target_q, actions, available, rewards, terminated, lengths, mix, mix, states)
    torch.testing.assert_close(loss, expected)


def test_a_time_limit_bootstraps_and_a_termination_does_not() -> None:
    rewards = torch.ones(1, 2)
    terminated = torch.tensor([[False, True]])
    targets = td_targets(rewards, terminated, torch.full((1, 2, 1), 10.0), GAMMA)
    assert targets.flatten().tolist() == pytest.approx([10.0, 1.0])


def test_padding_changes_neither_loss_nor_gradient() -> None:
    chosen = torch.randn(4, 3, 1, requires_grad=True)
    targets = torch.randn(4, 3, 1)
    valid = torch.ones(4, 3, dtype=torch.bool)
    valid[2:, 1] = False
    loss = td_loss(chosen, targets, valid)
    loss.backward()
    assert (chosen.grad[2:, 1] == 0).all()
    garbage = targets.clone()
    garbage[2:, 1] = 1e6
    torch.testing.assert_close(td_loss(chosen, garbage, valid), loss)
    torch.testing.assert_close(loss, (chosen - targets)[valid].square().mean())


def test_no_gradient_flows_into_the_targets() -> None:
    targets = torch.randn(4, 3, 1, requires_grad=True)
    loss = td_loss(torch.randn(4, 3, 1, requires_grad=True), targets, torch.ones(4, 3, dtype=torch.bool))
    loss.backward()
    assert targets.grad is None


def test_independent_learners_average_over_agents() -> None:
    values = torch.tensor([[[1.0, 3.0]], [[100.0, 100.0]]])  # [T=2, B=1, K=2]
    assert masked_mean(values, torch.tensor([[True], [False]])).item() == 2.0


def test_greedy_actions_are_available_even_when_worse() -> None:
    q = torch.tensor([5.0, 1.0, 3.0])
    assert greedy_actions(q, torch.tensor([False, True, True])).item() == 2


def test_lambda_returns_equal_their_recursion_and_stop_at_each_episodes_end() -> None:
    generator = torch.Generator().manual_seed(0)
    steps, episodes, trace = 5, 3, 0.7
    rewards, values = (torch.randn(shape, generator=generator) for shape in ((steps, episodes), (steps, episodes, 1)))
    lengths = [5, 2, 4]
    valid = torch.arange(steps).unsqueeze(1) < torch.tensor(lengths)
    terminated = torch.zeros(steps, episodes, dtype=torch.bool)
    terminated[3, 2] = True
    targets = td_targets(rewards, terminated, values, GAMMA, valid, trace)
    for b, length in enumerate(lengths):
        expected = values[length - 1, b, 0]
        for t in range(length - 1, -1, -1):
            bootstrap = (1 - trace) * values[t, b, 0] + trace * expected
            expected = rewards[t, b] + (0.0 if terminated[t, b] else GAMMA * bootstrap)
            torch.testing.assert_close(targets[t, b, 0], expected)
    one_step = td_targets(rewards, terminated, values, GAMMA)
    torch.testing.assert_close(td_targets(rewards, terminated, values, GAMMA, valid, 1e-12), one_step)
