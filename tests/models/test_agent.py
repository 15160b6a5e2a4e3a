"""The team's network: who depends on what, over agents and over time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from k24_rllib.models import Agent, AgentWeights, FeedforwardAgent, GRUAgent, OwnerGroups, agent_inputs, layer_factory
from k24_rllib.sparsity import LAYERS, DenseLinear, JointPatterns, MaskedLayer, SemiStructuredLinear

AGENTS, STEPS, ROWS, INPUT, ACTIONS = 3, 5, 4, 9, 6


def make_agent(layer: str = "2:4", owners: int = AGENTS, recurrent: bool = True) -> Agent:
    torch.manual_seed(0)
    factory = layer_factory(LAYERS.part(layer), owners)
    return (GRUAgent if recurrent else FeedforwardAgent)(INPUT, ACTIONS, owners, factory, hidden_dim=16)


def unroll(agent: Agent, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    hidden = agent.initial_hidden(len(x), x.shape[2]) if hidden is None else hidden
    return agent.unroll(x, hidden, agent.weights(explore=False))


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
    agent = make_agent(owners=2)
    same = x.clone()
    same[2] = same[0]
    same[1] = same[0]
    groups = OwnerGroups.by_owner(np.tile([0, 1, 0], (ROWS, 1)), 2)
    q = groups.scatter(unroll(agent, groups.gather(same))[0])
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
    track = real.float().reshape(1, -1).expand(AGENTS, -1)
    agent.unroll(x, agent.initial_hidden(AGENTS, ROWS), agent.weights(True), track)
    kept = x.permute(1, 2, 0, 3)[real]  # [real rows, N, I]
    torch.testing.assert_close(agent.fc1.tracker.value, kept.abs().mean((0, 1)))


def test_gradients_reach_scores_weights_and_the_recurrent_cell(x: Tensor) -> None:
    agent = make_agent()
    q, _ = agent.unroll(x, agent.initial_hidden(AGENTS, ROWS), agent.weights(True))
    q.square().sum().backward()
    for name, parameter in agent.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_names_of_parameters_are_those_of_old_checkpoints() -> None:
    for recurrent, middle in ((True, {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}), (False, None)):
        agent = make_agent("dense", recurrent=recurrent)
        agent.weights(explore=True)  # what is made for a joint pass is no part of the state
        expected = {f"{layer}.{name}" for layer in ("fc1", "fc2", "fc3", "fc4") for name in ("weight", "bias")}
        expected |= {f"middle.{name}" for name in middle or {"weight", "bias"}}
        assert set(agent.state_dict()) == expected
    made = make_agent()
    before = set(made.state_dict())
    made.weights(explore=True)
    assert set(made.state_dict()) == before


@pytest.mark.parametrize("layer", ["dense", "independent", "hyper", "2:4", "kaleidoscope"])
@pytest.mark.parametrize("recurrent", [True, False])
def test_it_matters_whose_rows_are_whose_unless_all_weights_are_the_same(layer: str, recurrent: bool) -> None:
    assert make_agent(layer, recurrent=recurrent).tells_owners_apart is (layer != "dense")


def test_memory_counts_layers_and_all_else_once_or_for_each_owner() -> None:
    for layer in ("dense", "independent"):
        agent = make_agent(layer)
        numbers = sum(parameter.numel() for parameter in agent.parameters())
        memory = agent.memory()
        assert memory.numbers == numbers
        assert memory.owner_numbers == (numbers if layer == "dense" else numbers / AGENTS)


def test_layers_of_different_kinds_make_their_own_weights(x: Tensor) -> None:
    """A dense layer among 2:4 ones: no joint pass, but a draw for each 2:4 layer all the same."""
    made: list[MaskedLayer] = []

    def make_layer(in_features: int, out_features: int) -> MaskedLayer:
        kind = DenseLinear if not made else SemiStructuredLinear
        made.append(kind(in_features, out_features, AGENTS))
        return made[-1]

    torch.manual_seed(0)
    agent = GRUAgent(INPUT, ACTIONS, AGENTS, make_layer, hidden_dim=16)
    assert agent.joint is None
    assert isinstance(make_agent().joint, JointPatterns)
    weights = agent.weights(explore=True)
    assert weights.probs is None
    assert all(its.draw is not None for its in weights.layers[1:])
    assert agent.layers_of(SemiStructuredLinear) == made[1:]
    assert agent.tells_owners_apart
    q, _ = agent.unroll(x, agent.initial_hidden(AGENTS, ROWS), weights, torch.ones(AGENTS, STEPS * ROWS))
    assert q.shape == (AGENTS, STEPS, ROWS, ACTIONS)
    assert (agent.layers_of(SemiStructuredLinear)[0].selection_rate != 0.5).all()


class TwoThings(Agent):
    """An agent that somebody writes: it remembers a sum and a count of its inputs, packed into one number each."""

    def __init__(self, input_dim, num_actions, num_owners, make_layer, *, scale: float = 1.0) -> None:
        super().__init__(num_owners)
        self.head, self.scale = make_layer(2, num_actions), scale

    def layers(self) -> list[MaskedLayer]:
        return [self.head]

    def initial_hidden(self, groups: int, rows: int) -> Tensor:
        return torch.zeros(groups, rows, 2)

    def unroll(
        self, inputs: Tensor, hidden: Tensor, weights: AgentWeights, track: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        owners, steps, rows, _ = inputs.shape
        seen = torch.stack((inputs.sum(-1) * self.scale, torch.ones(owners, steps, rows)), -1).cumsum(1)
        states = hidden.unsqueeze(1) + seen  # [A, T, R, 2]
        q = self.head(states.reshape(owners, -1, 2), weights.layers[0], track)
        return q.view(owners, steps, rows, -1), states[:, -1]


def test_an_agent_of_three_methods_is_complete(x: Tensor) -> None:
    agent = TwoThings(INPUT, ACTIONS, AGENTS, layer_factory(LAYERS.part("2:4"), AGENTS))
    whole, last = unroll(agent, x)
    first, hidden = unroll(agent, x[:, :2])
    second, hidden = unroll(agent, x[:, 2:], hidden)
    torch.testing.assert_close(torch.cat((first, second), 1), whole)
    torch.testing.assert_close(hidden, last)
    assert agent.memory() == agent.head.memory()
    assert agent.weights(explore=True).probs is not None


def test_inputs_hold_observation_id_and_last_action() -> None:
    obs = torch.arange(2 * 3 * 2, dtype=torch.float32).view(2, 3, 2)  # [B, N, O]
    last = torch.tensor([[-1, 0, 1], [1, 1, -1]])
    inputs = agent_inputs(obs, last, agent_id=True, num_actions=2)
    assert inputs.shape == (3, 2, 2 + 3 + 2)
    assert inputs[1, 0].tolist() == [*obs[0, 1].tolist(), 0, 1, 0, 1, 0]
    assert inputs[2, 1].tolist() == [*obs[1, 2].tolist(), 0, 0, 1, 0, 0]
