"""VMAS's scenarios, where it is installed: held to VMAS itself, to seeds and limits; what is said of bad options."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from random_play import random_actions

from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, TeamStep, make_team_env, vmas

torch = pytest.importorskip("torch")
simulator = pytest.importorskip("vmas")

EPISODES = 300


def play(env: TeamEnv, seed: int, policy: Any = None) -> tuple[np.ndarray, list[TeamStep]]:
    """Plays an episode in each copy, at random if not by `policy`; returns team returns and all steps."""
    rng = np.random.default_rng(seed)
    steps, returns = [env.reset(seed)], np.zeros(env.num_envs)
    while not steps[-1].done.all():
        step = steps[-1]
        steps.append(env.step(policy(step) if policy else random_actions(step.avail_actions, rng)))
        returns += steps[-1].team_reward
    return returns, steps


@pytest.mark.parametrize("scenario", ["dispersion", "navigation", "balance", "dropout", "football", "flocking"])
def test_episodes_repeat_from_their_seed(scenario: str) -> None:
    env = make_team_env("vmas", 3, scenario=scenario, max_steps=12)
    first, other = play(env, 3)[1], play(env, 4)[1]
    again, elsewhere = play(env, 3)[1], play(make_team_env("vmas", 3, scenario=scenario, max_steps=12), 3)[1]
    assert (first[0].obs != other[0].obs).any()
    assert len({tuple(row) for row in first[0].obs.reshape(3, -1).tolist()}) == 3
    for same in (again, elsewhere):
        np.testing.assert_array_equal([step.obs for step in first], [step.obs for step in same])
        np.testing.assert_array_equal([step.team_reward for step in first], [step.team_reward for step in same])


def test_two_environments_of_a_process_share_no_stream() -> None:
    alone = make_team_env("vmas", 2, scenario="navigation")
    alone.reset(1)
    expected = alone.reset().obs
    alone.reset(1)
    make_team_env("vmas", 2, scenario="navigation").reset(5)
    np.testing.assert_array_equal(alone.reset().obs, expected)


def test_the_learner_s_generators_do_not_notice() -> None:
    torch.manual_seed(11), np.random.seed(12), random.seed(13)
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]
    torch.manual_seed(11), np.random.seed(12), random.seed(13)
    play(make_team_env("vmas", 2, scenario="navigation", max_steps=3), 0)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]) == expected


def test_steps_are_vmas_s_own() -> None:
    env = make_team_env("vmas", 4, scenario="navigation", shared_rew=False, team_reward="mean")
    reference = simulator.make_env("navigation", 4, continuous_actions=False, shared_rew=False)
    step, rng = env.reset(0), np.random.default_rng(0)
    reference.reset()
    for theirs, ours in zip(reference.world.entities, env._env.world.entities, strict=True):  # type: ignore[attr-defined]
        theirs.set_pos(ours.state.pos.clone(), batch_index=None)
    for agent in reference.agents:
        agent.pos_shaping = torch.linalg.vector_norm(agent.state.pos - agent.goal.state.pos, dim=1)
    for _ in range(20):
        actions = random_actions(step.avail_actions, rng)
        step = env.step(actions)
        observations, rewards, _, _ = reference.step(list(torch.from_numpy(actions).T))
        np.testing.assert_array_equal(step.obs, torch.stack(observations, 1).numpy())
        np.testing.assert_array_equal(step.agent_rewards, torch.stack(rewards, 1).numpy())
        np.testing.assert_allclose(step.team_reward, step.agent_rewards.mean(1), rtol=1e-6)


def to_own_food(step: TeamStep) -> np.ndarray:
    """Sends each agent of dispersion to the food of its own number."""
    food = step.obs[..., 4:].reshape(*step.obs.shape[:2], -1, 3)
    return towards(np.einsum("eiid->eid", food)[..., :2] - step.obs[..., 2:4])


def to_goal(step: TeamStep) -> np.ndarray:
    """Sends each agent of navigation to its goal, past whoever its lidar sees nearer than 0.3, on the right."""
    velocity, goal, near = step.obs[..., 2:4], -step.obs[..., 4:6], step.obs[..., 6:]
    angles = np.arange(near.shape[-1]) * 2 * np.pi / near.shape[-1]
    rays = np.stack([np.cos(angles), np.sin(angles)], -1)
    push = -(np.clip(near - 0.05, 0.0, None) / 0.3) @ rays
    aside = 0.5 * np.stack([-push[..., 1], push[..., 0]], -1)
    distance = np.maximum(np.linalg.norm(goal, axis=-1, keepdims=True), 1e-9)
    return towards(goal * np.minimum(1.0, 0.5 / distance) - 0.7 * velocity + push + aside)


def towards(force: np.ndarray) -> np.ndarray:
    """Returns VMAS's action for the signs of a force: stay, down or up on each axis, the first counting threefold."""
    axes = np.where(np.abs(force) < 0.02, 0, np.where(force < 0, 1, 2))
    return axes[..., 0] * 3 + axes[..., 1]


@pytest.mark.parametrize(("scenario", "script"), [("dispersion", to_own_food), ("navigation", to_goal)])
def test_scores_begin_at_random_play_and_end_at_a_script(scenario: str, script: Any) -> None:
    env = make_team_env("vmas", EPISODES, scenario=scenario)
    assert env.score_reference is not None
    for policy, expected in zip((None, script), env.score_reference, strict=True):
        returns, _ = play(env, 0, policy)
        assert returns.mean() == pytest.approx(expected, abs=4 * returns.std() / EPISODES**0.5 + 1e-6)
    assert make_team_env("vmas", 1, scenario=scenario, max_steps=50).score_reference is None
    assert make_team_env("vmas", 1, scenario=scenario, n_agents=3).score_reference is None


def test_what_ends_and_what_is_cut_and_finished_copies_stay() -> None:
    env = make_team_env("vmas", 60, scenario="dispersion", n_agents=2, food_radius=0.2, max_steps=30)
    returns, steps = play(env, 0)
    eaten = steps[-1].terminated
    assert 0 < eaten.sum() < 60
    assert (steps[-1].truncated == ~eaten).all()
    assert len(steps) == 31
    np.testing.assert_allclose(returns[eaten], 2.0)
    ends = np.where(eaten, np.argmax([step.terminated for step in steps], axis=0), len(steps))
    copy, over = int(ends.argmin()), int(ends.min())
    assert over < 30
    for later in steps[over + 1 :]:
        np.testing.assert_array_equal(later.obs[copy], steps[over].obs[copy])
        np.testing.assert_array_equal(later.state[copy], steps[over].obs[copy].ravel())
        assert later.team_reward[copy] == 0
        assert not later.agent_rewards[copy].any()
    with pytest.raises(ValueError, match="every copy's episode is over"):
        env.step(np.zeros((60, 2), int))


def test_later_steps_leave_arrays_alone() -> None:
    env = make_team_env("vmas", 2, scenario="balance", max_steps=20)
    steps = [env.reset(0)]
    kept = [(steps[0].obs.copy(), steps[0].state.copy())]
    for _ in range(5):
        steps.append(env.step(np.full((2, env.num_agents), 2)))
        kept.append((steps[-1].obs.copy(), steps[-1].state.copy()))
    for step, (obs, state) in zip(steps, kept, strict=True):
        np.testing.assert_array_equal(step.obs, obs)
        np.testing.assert_array_equal(step.state, state)


def test_agents_that_differ_are_padded() -> None:
    env = make_team_env("vmas", 2, scenario="simple_speaker_listener")
    step = env.reset(0)
    assert env.agent_names == ("speaker_0", "listener_0")
    assert step.avail_actions.sum(-1).tolist() == [[27, 9]] * 2  # of 9 moves; the speaker says one of 3 words besides
    assert not step.obs[:, 0, 3:].any()
    assert step.obs[:, 1, 3:].any()
    env.step(np.array([[26, 8], [0, 0]]))
    with pytest.raises(ValueError, match=r"copy 1, agent 1: got 9"):
        env.step(np.array([[26, 8], [0, 9]]))


COARSER = {"sampling": {"grid_spacing": 1.0}}
"""A scenario that fills a grid in Python: half a minute for two copies as it is made without options."""


@pytest.mark.parametrize("scenario", sorted(simulator.scenarios))
def test_every_scenario_steps(scenario: str) -> None:
    env = make_team_env("vmas", 2, scenario=scenario, max_steps=3, **COARSER.get(scenario, {}))
    step = env.reset(0)
    env.check_first_step(step)
    _, steps = play(env, 1)
    for step in steps[1:]:
        env.check_arrays(step)
        assert np.isfinite(step.obs).all()


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmas, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=r"environment 'vmas': needs .* pip install 'k24_rllib\[vmas\]'"):
        make_team_env("vmas", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "dispertion"}, r"unknown scenario 'dispertion'; did you mean 'dispersion'"),
        ({"scenario": 3}, r"unknown scenario 3"),
        ({"scenario": "simple_tag"}, r"scenario: got 'simple_tag', whose agents are two teams"),
        ({"max_steps": 0}, r"max_steps: got 0"),
        ({"team_reward": "some"}, r"team_reward: got 'some'"),
        ({"n_agent": 3}, r"unknown env_config key 'n_agent' of VMAS's dispersion; did you mean 'n_agents'"),
        ({"max_step": 3}, r"unknown env_config key 'max_step' of VMAS's dispersion; did you mean 'max_steps'"),
        ({"qqqq": 3}, r"unknown env_config key 'qqqq' of VMAS's dispersion \(known: food_radius, n_agents"),
        ({"scenario": "simple_spread", "n_landmarks": 1}, r"unknown env_config key 'n_landmarks'"),
        ({"n_agents": 0}, r"env_config: got \{'n_agents': 0\} for VMAS's dispersion"),
        ({"n_agents": "four"}, r"env_config: got \{'n_agents': 'four'\} for VMAS's dispersion, .*TypeError"),
        ({"food_radius": "wide"}, r"env_config: got \{'food_radius': 'wide'\} .*TypeError"),
        (
            {"scenario": "navigation", "agents_with_same_goal": 9},
            r"env_config: got \{'agents_with_same_goal': 9\} for VMAS's navigation, .*AssertionError",
        ),
        ({"scenario": "football", "dict_obs": True}, r"expected agents that see vectors"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        make_team_env("vmas", 1, **options)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)
