"""RLlib's view of the team: the catalogue's model and its contract."""

import gymnasium as gym
import torch
from ray.rllib.models import ModelCatalog
from torch import Tensor

from k24_rllib.models import MODEL_NAME, UNAVAILABLE, TeamRNNModel, register_models, team_observation_space

AGENTS, OBS, STATE, ACTIONS = 3, 5, 8, 4


def make_model(**options: object) -> TeamRNNModel:
    register_models()
    torch.manual_seed(0)
    return ModelCatalog.get_model_v2(
        obs_space=team_observation_space(OBS, STATE, ACTIONS, range(AGENTS)),
        action_space=gym.spaces.MultiDiscrete([ACTIONS] * AGENTS),
        num_outputs=AGENTS * ACTIONS,
        model_config={"custom_model": MODEL_NAME, "custom_model_config": {"hidden_dim": 16, **options}},
        framework="torch",
    )


def observations(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "obs": torch.randn(rows, AGENTS, OBS, generator=generator),
        "avail_actions": torch.ones(rows, AGENTS, ACTIONS),
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
    model = make_model(recurrent=False)
    assert model.get_initial_state() == []
    q, state = model.forward({"obs": observations(4)}, [], None)
    assert q.shape == (4, AGENTS * ACTIONS)
    assert state == []
