"""Rows grouped by mask owner against a slow loop that runs each agent's episode alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from k24_rllib.models import Agent, FeedforwardAgent, GRUAgent, OwnerGroups, layer_factory
from k24_rllib.sparsity import LAYERS

OWNERS, AGENTS, STEPS, EPISODES, INPUT, ACTIONS = 4, 3, 5, 6, 9, 2
KINDS = ["2:4", "kaleidoscope", "independent", "hyper", "dense"]


def random_owners(seed: int = 0, owners: int = OWNERS, agents: int = AGENTS) -> np.ndarray:
    return np.random.default_rng(seed).integers(owners, size=(EPISODES, agents))


def make_agent(layer: str, recurrent: bool = True, owners: int = OWNERS, **options) -> Agent:
    torch.manual_seed(0)
    kind = GRUAgent if recurrent else FeedforwardAgent
    return kind(INPUT, ACTIONS, owners, layer_factory(LAYERS.part(layer, options), owners), hidden_dim=16)


def inputs() -> Tensor:
    return torch.randn(AGENTS, STEPS, EPISODES, INPUT, generator=torch.Generator().manual_seed(1))


def alone(agent: Agent, x: Tensor, weights, owner: int) -> tuple[Tensor, Tensor]:
    """Runs one agent's episode `x [T, I]`: it alone has rows that are not zero, in its owner's place."""
    padded = torch.zeros(agent.num_owners, len(x), 1, INPUT)
    padded[owner, :, 0] = x
    q, hidden = agent.unroll(padded, agent.initial_hidden(agent.num_owners, 1), weights)
    return q[owner, :, 0], hidden[owner, 0]


def grouped(agent: Agent, x: Tensor, weights, groups: OwnerGroups) -> tuple[Tensor, Tensor]:
    q, hidden = agent.unroll(groups.gather(x), agent.initial_hidden(groups.num_groups, groups.rows), weights)
    return groups.scatter(q), groups.scatter(hidden.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("agents", [1, 3, 8])
def test_each_row_goes_to_its_owner_and_comes_back(seed: int, agents: int) -> None:
    mask_ids = random_owners(seed, agents=agents)
    groups = OwnerGroups.by_owner(mask_ids, OWNERS)
    assert groups.num_groups == OWNERS
    assert groups.rows == np.bincount(mask_ids.ravel(), minlength=OWNERS).max()
    for steps in (1, STEPS):
        x = 1.0 + torch.rand(agents, steps, EPISODES, 3)
        rows = groups.gather(x)
        assert rows.shape == (OWNERS, steps, groups.rows, 3)
        for owner in range(OWNERS):
            its = [x[n, :, b] for n in range(agents) for b in range(EPISODES) if mask_ids[b, n] == owner]
            for place, expected in enumerate(its):
                assert torch.equal(rows[owner, :, place], expected)
            assert not rows[owner, :, len(its) :].any()
        assert torch.equal(groups.scatter(rows), x)


def test_rows_in_order_are_not_touched() -> None:
    mask_ids = np.tile(np.arange(AGENTS), (EPISODES, 1))
    x = torch.randn(AGENTS, STEPS, EPISODES, 2)
    for groups in (OwnerGroups.by_owner(mask_ids, AGENTS), OwnerGroups.by_agent(AGENTS, EPISODES)):
        assert groups.gather(x) is x
        assert groups.scatter(x) is x
        assert (groups.num_groups, groups.rows) == (AGENTS, EPISODES)
    mask_ids[2] = [1, 0, 2]
    assert OwnerGroups.by_owner(mask_ids, AGENTS).gather(x) is not x
    assert OwnerGroups.by_owner(mask_ids, AGENTS + 1).num_groups == AGENTS + 1


def test_gradients_are_those_of_the_moves() -> None:
    groups = OwnerGroups.by_owner(random_owners(), OWNERS)
    x = torch.randn(AGENTS, 2, EPISODES, 2, dtype=torch.float64, requires_grad=True)
    y = torch.randn(OWNERS, 2, groups.rows, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(groups.gather, x)
    assert torch.autograd.gradcheck(groups.scatter, y)
    assert torch.autograd.gradgradcheck(groups.scatter, y)


@pytest.mark.parametrize("owner", [-1, OWNERS])
def test_an_owner_that_is_none_is_refused(owner: int) -> None:
    mask_ids = random_owners()
    mask_ids[1, 1] = owner
    with pytest.raises(ValueError, match=r"mask_ids: got .* expected 0 to 3"):
        OwnerGroups.by_owner(mask_ids, OWNERS)


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("layer", KINDS)
def test_values_memory_and_gradients_are_those_of_each_alone(layer: str, recurrent: bool) -> None:
    mask_ids, x = random_owners(), inputs()
    agent = make_agent(layer, recurrent)
    torch.manual_seed(2)
    direction = torch.randn(AGENTS, STEPS, EPISODES, ACTIONS)
    found = []
    for together in (True, False):
        torch.manual_seed(3)
        weights = agent.weights(explore=True)
        if together:
            q, hidden = grouped(agent, x, weights, OwnerGroups.by_owner(mask_ids, OWNERS))
        else:
            pairs = [
                [alone(agent, x[n, :, b], weights, mask_ids[b, n]) for b in range(EPISODES)] for n in range(AGENTS)
            ]
            q = torch.stack([torch.stack([one for one, _ in of_agent], 1) for of_agent in pairs])
            hidden = torch.stack([torch.stack([last for _, last in of_agent]) for of_agent in pairs])
        grads = torch.autograd.grad((q * direction).sum(), list(agent.parameters()), allow_unused=True)
        found.append((q, hidden, [torch.zeros(()) if grad is None else grad for grad in grads]))
    (q, hidden, grads), (expected_q, expected_hidden, expected_grads) = found
    torch.testing.assert_close(q, expected_q, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden, expected_hidden, rtol=1e-5, atol=1e-6)
    for grad, expected in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected.expand_as(grad), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["2:4", "kaleidoscope", "independent"])
def test_an_owners_rows_reach_its_own_numbers_alone(layer: str) -> None:
    mask_ids, x = random_owners(), inputs()
    agent = make_agent(layer, owners=OWNERS + 1)  # one owner without any row
    groups = OwnerGroups.by_owner(mask_ids, OWNERS + 1)
    own = {name: p for name, p in agent.named_parameters() if p.dim() > 1 and len(p) == OWNERS + 1}
    assert own
    for owner in range(OWNERS + 1):
        q, _ = grouped(agent, x, agent.weights(explore=True), groups)
        rows = torch.from_numpy(owner == mask_ids.T)[:, None, :, None]
        grads = torch.autograd.grad((q * rows).square().sum(), list(own.values()), allow_unused=True)
        for name, grad in zip(own, grads, strict=True):
            reached = grad.flatten(1).any(1).tolist()
            assert reached == [it == owner and owner < OWNERS for it in range(OWNERS + 1)], name


def test_only_real_rows_of_an_owner_enter_its_input_scale() -> None:
    mask_ids, x = random_owners(), inputs()
    agent = make_agent("2:4", ema_per_owner=True)
    groups = OwnerGroups.by_owner(mask_ids, OWNERS)
    real = torch.rand(STEPS, EPISODES, generator=torch.Generator().manual_seed(4)) < 0.6
    track = groups.track(real.float())
    assert track.shape == (OWNERS, STEPS * groups.rows)
    assert track.sum() == real.sum() * AGENTS
    hidden = agent.initial_hidden(OWNERS, groups.rows)
    agent.unroll(groups.gather(x), hidden, agent.weights(explore=True), track)
    for owner in range(OWNERS):
        its = [x[n, real[:, b], b] for n in range(AGENTS) for b in range(EPISODES) if mask_ids[b, n] == owner]
        torch.testing.assert_close(agent.fc1.tracker.value[owner], torch.cat(its).abs().mean(0))


def test_one_input_scale_for_all_counts_no_padding() -> None:
    """The kernel's average and PyTorch's, over groups of which some rows are nobody's."""
    mask_ids, x = random_owners(), inputs()
    groups = OwnerGroups.by_owner(mask_ids, OWNERS)
    for compiled in (True, False):
        agent = make_agent("2:4", compiled=compiled)
        real = torch.ones(STEPS, EPISODES)
        hidden = agent.initial_hidden(OWNERS, groups.rows)
        agent.unroll(groups.gather(x), hidden, agent.weights(explore=True), groups.track(real))
        torch.testing.assert_close(agent.fc1.tracker.value, x.abs().mean((0, 1, 2)))


def test_agents_of_one_owner_share_its_average() -> None:
    x = inputs()
    mask_ids = np.tile([1, 0, 1], (EPISODES, 1))
    groups = OwnerGroups.by_owner(mask_ids, 2)
    agent = make_agent("2:4", owners=2, ema_per_owner=True)
    real = torch.ones(STEPS, EPISODES)
    hidden = agent.initial_hidden(2, groups.rows)
    agent.unroll(groups.gather(x), hidden, agent.weights(explore=True), groups.track(real))
    expected = torch.stack((x[1].abs().mean((0, 1)), x[[0, 2]].abs().mean((0, 1, 2))))
    torch.testing.assert_close(agent.fc1.tracker.value, expected)
