"""One side of a two-team scenario as a team: what it sees and earns, who plays the other side, what cannot be asked."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from random_play import random_actions

from k24_rllib.checks import ConfigError
from k24_rllib.envs import make_team_env, team_env_names
from k24_rllib.envs.mpe import TWO_TEAM, BatchedMPE, TwoTeamMPE
from k24_rllib.envs.mpe.scripts import SCRIPTS
from k24_rllib.envs.mpe.two_team import TEAMS, Actions, Still

EPISODES = 200


def made(name: str, copies: int, **options: Any) -> TwoTeamMPE:
    env = make_team_env(name, copies, **options)
    assert isinstance(env, TwoTeamMPE)
    return env


def returns(name: str, team: str, way: str, opponents: str, **options: Any) -> np.ndarray:
    """Plays an episode in each copy, the side by its script or at random."""
    env, rng = made(name, EPISODES, team=team, opponents=opponents, **options), np.random.default_rng(0)
    step, total = env.reset(0), np.zeros(EPISODES)
    while not step.done.all():
        if way == "scripted":
            actions = SCRIPTS[name][team](env.engine.scenario, env.side, env.opponents)
        else:
            actions = random_actions(step.avail_actions, rng)
        step = env.step(actions)
        total += step.team_reward
    return total


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("name", TWO_TEAM)
def test_a_side_sees_and_earns_its_part_of_the_scenario(name: str, team: str) -> None:
    env, whole, rng = made(name, 3, team=team, opponents="still"), BatchedMPE(name, 3), np.random.default_rng(1)
    ours, all_of_it = env.reset(4), whole.reset(4)
    assert sorted(env.side + env.opponents) == list(range(whole.num_agents))
    assert {whole.agent_names[agent] for agent in env.side} == set(env.agent_names)
    while not ours.done.all():
        for place, agent in enumerate(env.side):
            size, actions = whole.obs_sizes[agent], whole.action_counts[agent]
            np.testing.assert_array_equal(ours.obs[:, place, :size], all_of_it.obs[:, agent, :size])
            assert not ours.obs[:, place, size:].any()
            assert (ours.avail_actions[:, place].sum(-1) == actions).all()
        np.testing.assert_array_equal(ours.state, all_of_it.state)
        actions = random_actions(ours.avail_actions, rng)
        everybody = np.zeros((3, whole.num_agents), int)
        everybody[:, env.side] = actions
        ours, all_of_it = env.step(actions), whole.step(everybody)
        np.testing.assert_array_equal(ours.agent_rewards, all_of_it.agent_rewards[:, env.side])
        np.testing.assert_allclose(ours.team_reward, ours.agent_rewards.sum(1), rtol=1e-6)
    assert (env.num_mask_owners, set(ours.mask_ids.ravel())) == (env.num_agents, set(range(env.num_agents)))


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("name", TWO_TEAM)
def test_scripts_play_well(name: str, team: str) -> None:
    """On either side a script earns more than random play does, and leaves the other side less than random play does.

    Eve alone, whose messages nobody needs, leaves Alice and Bob what they have.
    """
    assert returns(name, team, "scripted", "random").mean() > returns(name, team, "random", "random").mean()
    other = TEAMS[1 - TEAMS.index(team)]
    if (name, other) not in (("mpe_simple_crypto", "good"), ("mpe_simple_crypto", "adversaries")):
        against_random, against_script = (returns(name, team, "scripted", way).mean() for way in ("random", "scripted"))
        assert against_script < against_random + 0.5


def test_random_opponents_repeat_from_the_seed_and_do_not_depend_on_the_number_of_copies() -> None:
    starts = [made("mpe_simple_tag", copies, opponents="random") for copies in (4, 2, 2)]
    seeds = (3, 3, 4)
    steps = [env.reset(seed) for env, seed in zip(starts, seeds, strict=True)]
    for _ in range(5):
        steps = [env.step(np.zeros((env.num_envs, 1), int)) for env in starts]
    np.testing.assert_array_equal(steps[0].state[:2], steps[1].state)
    assert (steps[1].state != steps[2].state).any()


def test_a_side_can_be_of_any_size() -> None:
    env = made("mpe_simple_world_comm", 2, team="adversaries", num_adversaries=4, num_good=2)
    assert (env.num_agents, len(env.opponents)) == (4, 2)
    assert made("mpe_simple_tag", 1, num_good=3, num_adversaries=5).num_agents == 3
    env.reset(0)
    assert env.render().ndim == 3


@pytest.mark.parametrize("team", TEAMS)
def test_push_scripts_play_well_in_teams_of_any_size(team: str) -> None:
    sizes = {"num_good": 2, "num_adversaries": 5}
    assert made("mpe_simple_push", 1, team=team, opponents="still", **sizes).num_agents == (5, 2)[team == "good"]
    scripted, random = (
        returns("mpe_simple_push", team, way, "scripted", **sizes).mean() for way in ("scripted", "random")
    )
    assert scripted > random + 10


def test_a_margin_is_what_a_side_earns_more_than_the_other_an_agent() -> None:
    ours, theirs = (made("mpe_simple_tag", 4, team=team, opponents="random", num_good=2) for team in TEAMS)
    total = np.zeros((4, 5))
    step = ours.reset(0)
    while not step.done.all():
        step = ours.step(np.ones((4, 3), int))
        total += ours._last.agent_rewards
    np.testing.assert_allclose(ours.margins(), total[:, :3].mean(1) - total[:, 3:].mean(1), rtol=1e-5)
    theirs.reset(0)
    assert not theirs.margins().any()


def test_the_time_of_the_opponents_is_taken() -> None:
    class Slow(Still):
        def act(self, env: TwoTeamMPE) -> Actions:
            time.sleep(0.02)
            return super().act(env)

    env = made("mpe_simple_tag", 2, opponents="still")
    env.reset(0)
    env.step(np.zeros((2, 1), int))
    quick = env.opponents_s
    env.face(Slow())
    env.reset(0)
    env.step(np.zeros((2, 1), int))
    assert 0.0 < quick < 0.02 <= env.opponents_s - quick


def test_the_mean_is_the_sum_over_the_number_of_agents() -> None:
    summed, mean = (made("mpe_simple_tag", 8, team="adversaries", team_reward=way) for way in ("sum", "mean"))
    summed.reset(0)
    mean.reset(0)
    chasing = np.zeros((8, 3), int)
    for _ in range(10):
        one, other = summed.step(chasing), mean.step(chasing)
        np.testing.assert_allclose(one.team_reward, 3 * other.team_reward, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"team": "goods"}, r"team: got 'goods', expected one of 'adversaries', 'good'; did you mean 'good'"),
        (
            {"opponents": "script"},
            r"opponents: got 'script', expected random, still, scripted, self, trained or a .*; did you mean 'script",
        ),
        ({"opponents": 3}, r"opponents: got 3, expected random"),
        ({"oponents": "still"}, r"unknown env_config key 'oponents' of mpe_simple_tag; did you mean 'opponents'"),
        ({"num_good": 0}, r"num_good: got 0, expected a whole number at least 1"),
        ({"continuous_actions": True}, r"continuous_actions: got True, expected false"),
        ({"team_reward": "some"}, r"team_reward: got 'some'"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_team_env("mpe_simple_tag", 1, **options)


def test_all_of_them_have_names() -> None:
    assert set(TWO_TEAM) <= set(team_env_names())
