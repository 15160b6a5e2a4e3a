"""The team's network: who depends on what, over agents and over time."""

import pytest
import torch
from torch import Tensor

from k24_rllib.models import TeamAgent, agent_inputs, layer_factory

AGENTS, STEPS, ROWS, INPUT, ACTIONS = 3, 5, 4, 9, 6


def make_agent(layer: str = "2:4", mask_ids: tuple[int, ...] = (0, 1, 2), recurrent: bool = True) -> TeamAgent:
    torch.manual_seed(0)
    factory = layer_factory(layer, max(mask_ids) + 1)
    return TeamAgent(INPUT, ACTIONS, mask_ids, factory, hidden_dim=16, recurrent=recurrent)


def unroll(agent: TeamAgent, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    hidden = agent.initial_hidden(x.shape[2]) if hidden is None else hidden
    return agent.unroll(x, hidden, agent.agent_weights(explore=False))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(AGENTS, STEPS, ROWS, INPUT, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", ["2:4", "dense"])
@pytest.mark.parametrize("recurrent", [True, False])
def test_one_agents_input_changes_that_agents_values_alone(x: Tensor, layer: str, recurrent: bool) -> None:
    agent = make_agent(layer, recurrent=recurrent)
    before, _ = unroll(agent, x)
    changed = x.clone()
    changed[1] += 1.0
    after, _ = unroll(agent, changed)
    differs = (before != after).flatten(1).any(1)
    assert differs.tolist() == [False, True, False]


def test_values_do_not_depend_on_the_future(x: Tensor) -> None:
    agent = make_agent()
    before, _ = unroll(agent, x)
    changed = x.clone()
    changed[:, 3] += 1.0
    after, _ = unroll(agent, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any()


def test_memory_carries_over_steps_only_with_recurrence(x: Tensor) -> None:
    changed = x.clone()
    changed[:, 0] += 1.0
    for recurrent in (True, False):
        agent = make_agent(recurrent=recurrent)
        differs = bool((unroll(agent, x)[0][:, 1:] != unroll(agent, changed)[0][:, 1:]).any())
        assert differs is recurrent


@pytest.mark.parametrize("recurrent", [True, False])
def test_stepping_equals_unrolling(x: Tensor, recurrent: bool) -> None:
    agent = make_agent(recurrent=recurrent)
    whole, last = unroll(agent, x)
    hidden, steps = None, []
    for t in range(STEPS):
        q, hidden = unroll(agent, x[:, t : t + 1], hidden)
        steps.append(q)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    torch.testing.assert_close(hidden, last)


def test_each_agent_uses_its_owners_weights(x: Tensor) -> None:
    agent = make_agent(mask_ids=(0, 1, 0))
    same = x.clone()
    same[2] = same[0]
    same[1] = same[0]
    q, _ = unroll(agent, same)
    torch.testing.assert_close(q[0], q[2])
    assert (q[0] != q[1]).any()


def test_dense_agents_without_id_are_one_function(x: Tensor) -> None:
    agent = make_agent("dense")
    same = x[:1].expand(AGENTS, -1, -1, -1)
    q, _ = unroll(agent, same)
    torch.testing.assert_close(q[0], q[1])


def test_only_the_learners_pass_moves_the_input_scale_and_padding_does_not_count(x: Tensor) -> None:
    agent = make_agent()
    scale = agent.fc1.tracker.value
    before = scale.clone()
    unroll(agent, x)
    torch.testing.assert_close(agent.fc1.tracker.value, before)
    real = torch.ones(STEPS, ROWS, dtype=torch.bool)
    real[2:, 1] = False
    agent.unroll(x, agent.initial_hidden(ROWS), agent.agent_weights(True), real=real)
    kept = x.permute(1, 2, 0, 3)[real]  # [real rows, N, I]
    torch.testing.assert_close(agent.fc1.tracker.value, kept.abs().mean((0, 1)))


def test_gradients_reach_scores_weights_and_the_recurrent_cell(x: Tensor) -> None:
    agent = make_agent()
    q, _ = agent.unroll(x, agent.initial_hidden(ROWS), agent.agent_weights(True))
    q.square().sum().backward()
    for name, parameter in agent.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_inputs_hold_observation_id_and_last_action() -> None:
    obs = torch.arange(2 * 3 * 2, dtype=torch.float32).view(2, 3, 2)  # [B, N, O]
    last = torch.tensor([[-1, 0, 1], [1, 1, -1]])
    inputs = agent_inputs(obs, last, agent_id=True, num_actions=2)
    assert inputs.shape == (3, 2, 2 + 3 + 2)
    assert inputs[1, 0].tolist() == [*obs[0, 1].tolist(), 0, 1, 0, 1, 0]
    assert inputs[2, 1].tolist() == [*obs[1, 2].tolist(), 0, 0, 1, 0, 0]
