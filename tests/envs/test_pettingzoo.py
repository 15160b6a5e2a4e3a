"""The PettingZoo backend against mpe2 stepped by hand, and the rules of the interface."""

import importlib

import numpy as np
import pytest
from random_play import random_actions

from k24_rllib.checks import ConfigError
from k24_rllib.envs import PettingZooTeamEnv, TeamEnv, make_team_env, register_team_env, team_env_names
from k24_rllib.envs.mpe import ENGINES
from k24_rllib.envs.team_env import copy_seeds

SCENARIOS = [
    ("mpe_simple_spread", "simple_spread_v3", {"N": 3}),
    ("mpe_simple_spread", "simple_spread_v3", {"N": 5, "local_ratio": 0.2, "max_cycles": 10}),
    ("mpe_simple_reference", "simple_reference_v3", {}),
    ("mpe_simple_speaker_listener", "simple_speaker_listener_v4", {}),
    ("mpe_simple", "simple_v3", {}),
    ("mpe_simple_formation", "simple_formation_v1", {}),
    ("mpe_simple_line", "simple_line_v1", {"N": 3}),
    ("mpe_collect_treasure", "collect_treasure_v1", {}),
]


@pytest.mark.parametrize(("name", "module", "options"), SCENARIOS, ids=lambda value: str(value))
def test_batched_copies_equal_mpe2_stepped_by_hand(name: str, module: str, options: dict) -> None:
    copies, rng = 3, np.random.default_rng(0)
    env = make_team_env(name, copies, engine="mpe2", **options)
    step = env.reset(11)
    by_hand = [importlib.import_module(f"mpe2.{module}").parallel_env(**options) for _ in range(copies)]
    seen = [one.reset(seed=seed)[0] for one, seed in zip(by_hand, copy_seeds(11, copies), strict=True)]
    rewards = [dict.fromkeys(env.agent_names, 0.0)] * copies
    truncated = [False] * copies
    for t in range(env.episode_limit + 1):
        for row, one in enumerate(by_hand):
            for agent, agent_name in enumerate(env.agent_names):
                size = len(seen[row][agent_name])
                np.testing.assert_array_equal(step.obs[row, agent, :size], seen[row][agent_name])
                assert not step.obs[row, agent, size:].any()
                assert step.agent_rewards[row, agent] == np.float32(rewards[row][agent_name])
                legal = np.arange(env.num_actions) < one.action_space(agent_name).n
                np.testing.assert_array_equal(step.avail_actions[row, agent], legal)
            np.testing.assert_array_equal(step.state[row], one.state())
            assert step.team_reward[row] == pytest.approx(sum(rewards[row].values()), rel=1e-6)
        assert step.truncated.tolist() == truncated
        assert not step.terminated.any()
        if t == env.episode_limit:
            break
        actions = random_actions(step.avail_actions, rng)
        step = env.step(actions)
        played = [
            one.step(dict(zip(env.agent_names, row.tolist(), strict=True)))
            for one, row in zip(by_hand, actions, strict=True)
        ]
        seen, rewards = [result[0] for result in played], [result[1] for result in played]
        truncated = [all(result[3].values()) for result in played]
    assert step.truncated.all()  # the last step was the time limit, which is no termination
    np.testing.assert_array_equal(step.mask_ids, np.tile(np.arange(env.num_agents), (copies, 1)))
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_seed_repeats_and_copies_differ(engine: str) -> None:
    env = make_team_env("mpe_simple_spread", 4, engine=engine)
    first, again, other = env.reset(3), env.reset(3), env.reset(4)
    np.testing.assert_array_equal(first.obs, again.obs)
    assert (first.obs != other.obs).any()
    starts = np.concatenate([first.obs[:, 0], other.obs[:, 0]])
    assert len({row.tobytes() for row in starts}) == 8
    assert (env.reset().obs != other.obs).any()  # without a seed the streams go on
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_of_earlier_steps_stay_as_they_were(engine: str) -> None:
    env = make_team_env("mpe_simple_spread", 2, engine=engine)
    step = env.reset(0)
    kept = step.obs.copy()
    env.step(np.full((2, 3), 2))
    np.testing.assert_array_equal(step.obs, kept)
    env.close()


def test_a_finished_copy_waits_and_the_others_go_on() -> None:
    env = make_team_env("mpe_simple_spread", 2, engine="mpe2", terminate_on_success=True, max_cycles=6)
    env.reset(0)
    world = env._originals[0].unwrapped.world  # put the first copy's agents on their landmarks
    for agent, landmark in zip(world.agents, world.landmarks, strict=True):
        agent.state.p_pos = landmark.state.p_pos.copy()
    still = np.zeros((2, 3), np.int64)
    ended = env.step(still)
    assert ended.terminated.tolist() == [True, False]
    assert not ended.truncated.any()
    later = env.step(still)
    np.testing.assert_array_equal(later.obs[0], ended.obs[0])
    np.testing.assert_array_equal(later.state[0], ended.state[0])
    assert later.team_reward[0] == 0
    assert later.team_reward[1] != 0
    assert later.terminated.tolist() == [True, False]
    for _ in range(4):
        later = env.step(still)
    assert later.terminated.tolist() == [True, False]
    assert later.truncated.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"expected reset\(\)"):
        env.step(still)
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_team_reward_can_be_the_mean(engine: str) -> None:
    rewards = {}
    for kind in ("sum", "mean"):
        env = make_team_env("mpe_simple_spread", 2, engine=engine, N=4, team_reward=kind)
        env.reset(0)
        rewards[kind] = env.step(np.ones((2, 4), np.int64)).team_reward
        env.close()
    np.testing.assert_allclose(rewards["mean"] * 4, rewards["sum"], rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((2, 3), np.int64), "expected integers"),
        (np.zeros((3, 2)), "expected integers"),
        (np.array([[0, 0], [4, 0], [0, 0]]), r"copy 1, agent 0: got 4, expected one of \[0, 1, 2\]"),
        (np.array([[0, 0], [0, 0], [0, 9]]), r"copy 2, agent 1: got 9"),
        (np.array([[0, -1], [0, 0], [0, 0]]), r"copy 0, agent 1: got -1"),
    ],
)
def test_impossible_actions_are_named(actions: np.ndarray, message: str, engine: str) -> None:
    env = make_team_env("mpe_simple_speaker_listener", 3, engine=engine)
    env.reset(0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mpe_simple_spred", {}, "did you mean 'mpe_simple_spread'"),
        ("mpe_simple_spread", {"n": 3}, r"unknown env_config key 'n' of mpe_simple_spread; did you mean 'N'"),
        ("mpe_simple_spread", {"N": 0}, "N: got 0, expected a whole number at least 1"),
        ("mpe_simple_spread", {"N": 2.5}, r"N: got 2.5, expected a whole number"),
        ("mpe_simple_spread", {"max_cycles": -1}, "max_cycles: got -1"),
        ("mpe_simple_spread", {"local_ratio": 2}, "local_ratio: got 2, expected a number at least 0.0 and at most 1.0"),
        ("mpe_simple_spread", {"continuous_actions": True}, "continuous_actions: got True, expected false"),
        ("mpe_simple_spread", {"engine": "batchd"}, "engine: got 'batchd'"),
        ("mpe_simple_spread", {"team_reward": "average"}, "team_reward: got 'average'"),
        ("mpe_simple_spread", {"terminate_on_success": 1}, "terminate_on_success: got 1, expected true or false"),
    ],
)
def test_bad_input_is_one_line_with_the_nearest_name(name: str, options: dict, message: str, engine: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_team_env(name, 1, **{"engine": engine, **options})
    assert "\n" not in str(caught.value)


def test_an_environment_of_ones_own_by_name() -> None:
    from mpe2 import simple_v3

    def factory(num_envs: int, length: int = 3) -> TeamEnv:
        return PettingZooTeamEnv(lambda: simple_v3.parallel_env(max_cycles=99), num_envs, episode_limit=length)

    register_team_env("mine", factory)
    assert "mine" in team_env_names()
    env = make_team_env("mine", 2, length=4)
    step = env.reset(0)
    for _ in range(4):
        assert not step.done.any()
        step = env.step(np.zeros((2, 1), np.int64))
    assert step.truncated.all()  # the limit holds though mpe2's own is longer
    env.close()


def test_continuous_actions_are_refused_by_the_backend() -> None:
    from mpe2 import simple_v3

    with pytest.raises(ConfigError, match=r"action space of agent_0: got Box"):
        PettingZooTeamEnv(lambda: simple_v3.parallel_env(continuous_actions=True), 1, episode_limit=5)
