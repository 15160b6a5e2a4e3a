"""RLlib's view of the team: the catalogue's model and its contract."""

import gymnasium as gym
import pytest
import torch
from ray.rllib.models import ModelCatalog
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.models import (
    MODEL_NAME,
    UNAVAILABLE,
    FeedforwardAgent,
    TeamModel,
    VDNMixer,
    register_models,
    team_observation_space,
)
from k24_rllib.registry import Part
from k24_rllib.sparsity import DenseLinear

AGENTS, OBS, STATE, ACTIONS = 3, 5, 8, 4
USUAL = {"agent": "gru", "agent_options": {"hidden_dim": 16}, "layer": "2:4", "mixer": "qmix"}


def make_model(owners: int = AGENTS, **options: object) -> TeamModel:
    register_models()
    torch.manual_seed(0)
    return ModelCatalog.get_model_v2(
        obs_space=team_observation_space(OBS, STATE, ACTIONS, AGENTS, owners),
        action_space=gym.spaces.MultiDiscrete([ACTIONS] * AGENTS),
        num_outputs=AGENTS * ACTIONS,
        model_config={"custom_model": MODEL_NAME, "custom_model_config": {**USUAL, **options}},
        framework="torch",
    )


def observations(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "obs": torch.randn(rows, AGENTS, OBS, generator=generator),
        "avail_actions": torch.ones(rows, AGENTS, ACTIONS),
        "mask_ids": torch.arange(float(AGENTS)).expand(rows, -1),
    }


def test_forward_over_time_equals_forward_step_by_step() -> None:
    model = make_model()
    teams, steps = 2, 3
    batch = observations(teams * steps)
    state = [torch.stack([part] * teams) for part in model.get_initial_state()]
    whole, last = model.forward({"obs": batch}, state, torch.full((teams,), steps))
    assert whole.shape == (teams * steps, AGENTS * ACTIONS)
    for t in range(steps):
        rows = torch.arange(teams) * steps + t  # RLlib puts a team's steps one after the other
        now = {name: values[rows] for name, values in batch.items()}
        q, state = model.forward({"obs": now}, state, torch.ones(teams, dtype=torch.int64))
        torch.testing.assert_close(q, whole[rows])
    torch.testing.assert_close(state[0], last[0])


def test_unavailable_actions_are_never_the_best() -> None:
    model = make_model()
    batch = observations(6)
    batch["avail_actions"][..., 1:] = 0.0
    state = [torch.stack([part] * 6) for part in model.get_initial_state()]
    q, _ = model.forward({"obs": batch}, state, None)
    q = q.view(6, AGENTS, ACTIONS)
    assert (q[..., 1:] == UNAVAILABLE).all()
    assert (q.argmax(-1) == 0).all()


def test_sizes_and_owners_come_from_the_space() -> None:
    model = make_model(layer="2:4", last_action=True)
    assert model.agent.fc1.in_features == OBS + AGENTS + ACTIONS
    assert model.agent.fc1.num_masks == AGENTS
    assert model.mixer.hyper_in.in_features == STATE


def test_without_recurrence_there_is_no_state() -> None:
    model = make_model(agent="feedforward")
    assert model.get_initial_state() == []
    q, state = model.forward({"obs": observations(4)}, [], None)
    assert q.shape == (4, AGENTS * ACTIONS)
    assert state == []


@pytest.mark.parametrize("layer", ["2:4", "independent", "dense"])
def test_rllibs_forward_follows_each_teams_owners(layer: str) -> None:
    """Teams of other owners in one batch, over time, equal each team alone with those owners."""
    model, teams, steps = make_model(owners=4, layer=layer), 3, 2
    owners = torch.tensor([[0.0, 1, 2], [3, 3, 0], [2, 0, 1]])
    batch = observations(teams * steps)
    batch["mask_ids"] = owners.repeat_interleave(steps, 0)
    state = [torch.stack([part] * teams) for part in model.get_initial_state()]
    q, (last,) = model.forward({"obs": batch}, state, torch.full((teams,), steps))
    for team in range(teams):
        hidden = [part.unsqueeze(0) for part in model.get_initial_state()]
        for t in range(steps):
            row = team * steps + t
            now = {name: values[row : row + 1] for name, values in batch.items()}
            alone, hidden = model.forward({"obs": now}, hidden, None)
            torch.testing.assert_close(alone[0], q[row])
        torch.testing.assert_close(hidden[0][0], last[team])
    swapped = {**batch, "mask_ids": batch["mask_ids"].flip(0)}
    changed, _ = model.forward({"obs": swapped}, state, torch.full((teams,), steps))
    assert torch.equal(changed, q) is (layer == "dense")


class Doubling(VDNMixer):
    def __init__(self, num_agents: int, state_dim: int, *, factor: float = 2.0) -> None:
        super().__init__(num_agents, state_dim)
        self.factor = factor


class Narrow(FeedforwardAgent):
    def __init__(self, *sizes, width: int = 4) -> None:
        super().__init__(*sizes, hidden_dim=width)


def test_parts_are_names_or_parts() -> None:
    narrow = Part("agent", "narrow", Narrow, {"width": 6})
    model = make_model(agent=narrow, layer="dense", mixer=Part("mixer", "doubling", Doubling))
    assert isinstance(model.agent, Narrow)
    assert isinstance(model.agent.fc1, DenseLinear)
    assert model.agent.fc1.out_features == 6
    assert model.mixer.factor == 2.0
    assert isinstance(make_model(agent="feedforward").agent, FeedforwardAgent)
    for key, name in (("agent", "grue"), ("layer", "2:5"), ("mixer", "qmx")):
        with pytest.raises(ConfigError, match=f"unknown {key} '{name}'.*did you mean"):
            make_model(**{key: name})
    with pytest.raises(ConfigError, match="custom_model_config: layer is missing"):
        make_model(layer=None)


def test_a_part_whose_values_have_another_shape_is_named() -> None:
    class Flat(VDNMixer):
        def forward(self, agent_q: Tensor, state: Tensor) -> Tensor:
            return agent_q.sum(-1)

    class Forgetful(FeedforwardAgent):
        def unroll(self, inputs, hidden, weights, track=None):
            q, _ = super().unroll(inputs, hidden, weights, track)
            return q, inputs

    make_model().check_shapes()
    with pytest.raises(ConfigError, match=r"Flat.forward: joint values: got shape \[2, 3\], expected \[2, 3, 1\] or"):
        make_model(mixer=Part("mixer", "flat", Flat)).check_shapes()
    with pytest.raises(ConfigError, match=r"Forgetful.unroll: hidden: got shape .*, expected \[3, 9, 0\]"):
        make_model(agent=Part("agent", "forgetful", Forgetful)).check_shapes()
