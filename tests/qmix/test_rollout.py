"""Rollouts: what is written, when, and with which weights."""

import numpy as np
import pytest
import torch
from ray.rllib.models import ModelCatalog

from k24_rllib.envs import make_team_env
from k24_rllib.models import MODEL_NAME, register_models
from k24_rllib.qmix import TeamBaseEnv, collect_episodes

SMALL = {"agent": "gru", "agent_options": {"hidden_dim": 8}, "layer": "2:4", "mixer": "qmix"}


def make_model(env_config: dict, name: str = "mpe_simple_spread"):
    register_models()
    torch.manual_seed(0)
    adapter = TeamBaseEnv(lambda num_envs, **options: make_team_env(name, num_envs, **options), env_config)
    space = adapter.observation_space
    return ModelCatalog.get_model_v2(
        obs_space=space,
        action_space=adapter.action_space,
        num_outputs=int(np.prod(space["avail_actions"].shape)),
        model_config={"custom_model": MODEL_NAME, "custom_model_config": SMALL},
        framework="torch",
    )


def test_episodes_replay_to_the_same_rewards() -> None:
    """The actions written down, played again by hand from the same seed, give what was written down."""
    options = {"N": 2, "max_cycles": 7}
    env = make_team_env("mpe_simple_spread", 3, **options)
    episodes = collect_episodes(env, make_model(options), epsilon=0.5, explore=True, seed=5)
    assert episodes.lengths.tolist() == [7, 7, 7]
    step = env.reset(5)
    for t in range(7):
        np.testing.assert_array_equal(episodes.obs[:, t], step.obs)
        np.testing.assert_array_equal(episodes.state[:, t], step.state)
        step = env.step(episodes.actions[:, t])
        np.testing.assert_array_equal(episodes.team_reward[:, t], step.team_reward)
        np.testing.assert_array_equal(episodes.agent_rewards[:, t], step.agent_rewards)
    np.testing.assert_array_equal(episodes.obs[:, 7], step.obs)  # what the last step led to
    assert not episodes.terminated.any()  # a time limit is no termination
    env.close()


def test_greedy_episodes_repeat_and_explored_ones_differ() -> None:
    options = {"N": 2, "max_cycles": 5}
    env, model = make_team_env("mpe_simple_spread", 8, **options), make_model(options)
    first, second = (collect_episodes(env, model, epsilon=0.0, explore=False, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)
    explored = collect_episodes(env, model, epsilon=1.0, explore=True, seed=1)
    assert (explored.actions != first.actions).any()
    env.close()


def test_only_available_actions_are_taken() -> None:
    env = make_team_env("mpe_simple_speaker_listener", 16, max_cycles=6)
    episodes = collect_episodes(
        env, make_model({"max_cycles": 6}, "mpe_simple_speaker_listener"), epsilon=1.0, explore=True, seed=0
    )
    available = np.take_along_axis(episodes.avail_actions[:, :-1], episodes.actions[..., None], -1)
    assert available.all()
    env.close()


@pytest.mark.parametrize("terminate_on_success", [True])
def test_a_terminated_episode_ends_there_and_is_padded(terminate_on_success: bool) -> None:
    """With one agent on its landmark from the start, some copies end early, and each for good."""
    options = {"N": 1, "max_cycles": 25, "terminate_on_success": terminate_on_success}
    env = make_team_env("mpe_simple_spread", 256, **options)
    episodes = collect_episodes(env, make_model(options), epsilon=1.0, explore=True, seed=0)
    early = episodes.lengths < 25
    assert 0 < early.sum() < 256
    rows = np.flatnonzero(early)
    assert episodes.terminated[rows, episodes.lengths[rows] - 1].all()
    assert (episodes.terminated.sum(1) == early).all()
    for row in rows:
        length = episodes.lengths[row]
        assert not episodes.team_reward[row, length:].any()
        assert not episodes.obs[row, length + 1 :].any()
        assert episodes.obs[row, length].any()
    env.close()
