"""Independent networks: one agent's parameters are its own, forward and back."""

import numpy as np
import pytest
import torch
from torch import Tensor

from k24_rllib.models import Agent, FeedforwardAgent, GRUAgent, OwnerGroups, layer_factory
from k24_rllib.sparsity import LAYERS

AGENTS, STEPS, ROWS, INPUT, ACTIONS, HIDDEN = 3, 5, 4, 9, 6, 16


def make_agent(layer: str = "independent", owners: int = AGENTS, recurrent: bool = True) -> Agent:
    torch.manual_seed(0)
    factory = layer_factory(LAYERS.part(layer), owners)
    return (GRUAgent if recurrent else FeedforwardAgent)(INPUT, ACTIONS, owners, factory, hidden_dim=HIDDEN)


def unroll(agent: Agent, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    hidden = agent.initial_hidden(len(x), x.shape[2]) if hidden is None else hidden
    return agent.unroll(x, hidden, agent.weights(explore=True))


def own(agent: Agent, owner: int) -> dict[str, Tensor]:
    """Returns views of one owner's parameters by the names that a dense network has for them."""
    found = {}
    for name, parameter in agent.named_parameters():
        layer, *rest = name.split(".")
        if rest[0] == "cells":
            if rest[1] == str(owner):
                found[f"{layer}.{rest[2]}"] = parameter
        else:
            found[name] = parameter[owner]
    return found


@pytest.fixture
def x() -> Tensor:
    return torch.randn(AGENTS, STEPS, ROWS, INPUT, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("recurrent", [True, False])
def test_each_agent_is_a_dense_network_of_its_own(x: Tensor, recurrent: bool) -> None:
    team = make_agent(recurrent=recurrent)
    q, last = unroll(team, x)
    for n in range(AGENTS):
        alone = make_agent("dense", 1, recurrent)
        alone.load_state_dict({name: value.detach().clone() for name, value in own(team, n).items()})
        expected_q, expected_last = unroll(alone, x[n : n + 1])
        torch.testing.assert_close(q[n : n + 1], expected_q)
        torch.testing.assert_close(last[n : n + 1], expected_last)


@pytest.mark.parametrize("recurrent", [True, False])
def test_one_agents_parameters_move_that_agent_alone(x: Tensor, recurrent: bool) -> None:
    agent = make_agent(recurrent=recurrent)
    before, _ = unroll(agent, x)
    for name, parameter in own(agent, 1).items():
        with torch.no_grad():
            parameter.add_(0.1)
            after, _ = unroll(agent, x)
            parameter.sub_(0.1)
        differs = (before - after).abs().flatten(1).amax(1) > 1e-5
        assert differs.tolist() == [False, True, False], name


@pytest.mark.parametrize("recurrent", [True, False])
def test_one_agents_loss_reaches_its_own_parameters_alone(x: Tensor, recurrent: bool) -> None:
    agent = make_agent(recurrent=recurrent)
    unroll(agent, x)[0][2].square().sum().backward()
    for owner in range(AGENTS):
        reached = {}
        for name, parameter in agent.named_parameters():
            grad = parameter.grad
            if ".cells." in name:
                if name.split(".")[2] == str(owner):
                    reached[name] = grad is not None and bool(grad.any())
            else:
                reached[name] = bool(grad[owner].any())
        assert set(reached.values()) == {owner == 2}, reached


def test_networks_start_different() -> None:
    agent = make_agent()
    for name, mine in own(agent, 0).items():
        assert (mine != own(agent, 1)[name]).all(), name


def test_agents_of_one_owner_share_its_network(x: Tensor) -> None:
    team = make_agent(owners=2)
    groups = OwnerGroups.by_owner(np.tile([1, 0, 0], (ROWS, 1)), 2)
    q = groups.scatter(unroll(team, groups.gather(x))[0])
    assert len(team.middle.cells) == 2
    for n, owner in enumerate((1, 0, 0)):
        alone = make_agent("dense", 1)
        alone.load_state_dict({name: value.detach().clone() for name, value in own(team, owner).items()})
        torch.testing.assert_close(q[n : n + 1], unroll(alone, x[n : n + 1])[0])


def test_stepping_equals_unrolling(x: Tensor) -> None:
    agent = make_agent()
    whole, last = unroll(agent, x)
    hidden, steps = None, []
    for t in range(STEPS):
        q, hidden = unroll(agent, x[:, t : t + 1], hidden)
        steps.append(q)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    torch.testing.assert_close(hidden, last)
