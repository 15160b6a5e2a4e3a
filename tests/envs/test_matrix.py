"""Matrix games: payoffs by hand, scores by enumeration, what cannot be played."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, make_team_env
from k24_rllib.envs.matrix import MATRIX_GAMES

SMALL: dict[str, dict[str, Any]] = {name: {} for name in MATRIX_GAMES} | {"matrix_specialisation": {"agents": 3}}


def paid(env: TeamEnv, *actions: int) -> list[float]:
    env.reset()
    return env.step(np.array([actions])).agent_rewards[0].tolist()


def test_payoffs() -> None:
    climbing, penalty, stag = (make_team_env(f"matrix_{name}", 1) for name in ("climbing", "penalty", "stag_hunt"))
    assert (paid(climbing, 0, 0), paid(climbing, 0, 1), paid(climbing, 1, 2)) == ([11, 11], [-30, -30], [6, 6])
    assert (paid(penalty, 0, 2), paid(penalty, 0, 0), paid(penalty, 1, 1)) == ([10, 10], [-100, -100], [2, 2])
    assert (paid(stag, 0, 0), paid(stag, 0, 1), paid(stag, 1, 0), paid(stag, 1, 1)) == ([4, 4], [1, 3], [3, 1], [2, 2])
    assert paid(make_team_env("matrix_penalty", 1, penalty=-1), 2, 2) == [-1, -1]


def test_who_shares_an_action_shares_its_reward() -> None:
    env = make_team_env("matrix_specialisation", 1, agents=4)
    assert paid(env, 0, 1, 2, 3) == [1, 1, 1, 1]
    assert paid(env, 0, 0, 0, 0) == [0.25] * 4
    assert paid(env, 2, 2, 1, 0) == [0.5, 0.5, 1, 1]


@pytest.mark.parametrize("name", MATRIX_GAMES)
@pytest.mark.parametrize("team_reward", ["mean", "sum"])
def test_scores_are_of_random_play_and_of_the_best_there_is(name: str, team_reward: str) -> None:
    env = make_team_env(name, 1, max_cycles=2, team_reward=team_reward, **SMALL[name])
    returns = []
    for actions in itertools.product(range(env.num_actions), repeat=env.num_agents):
        env.reset()
        returns.append(sum(env.step(np.array([actions])).team_reward[0] for _ in range(2)))
    assert env.score_reference == pytest.approx((np.mean(returns), max(returns)))


def test_an_episode_ends_by_its_limit_and_then_no_more_is_paid() -> None:
    env = make_team_env("matrix_climbing", 3, max_cycles=2)
    with pytest.raises(ValueError, match="expected reset"):
        env.step(np.zeros((3, 2), int))
    env.reset()
    first, last = (env.step(np.zeros((3, 2), int)) for _ in range(2))
    assert (first.done.any(), last.truncated.all(), last.terminated.any()) == (False, True, False)
    with pytest.raises(ValueError, match="expected reset"):
        env.step(np.zeros((3, 2), int))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("matrix_specialisation", {"agents": 1}, "agents: got 1, expected a whole number at least 2"),
        ("matrix_specialisation", {"agents": 4, "actions": 3}, "actions: got 3, expected a whole number at least 4"),
        ("matrix_penalty", {"penalty": 1}, "penalty: got 1, expected a number at least"),
        ("matrix_stag_hunt", {"max_cycles": 0}, "max_cycles: got 0"),
        ("matrix_climbing", {"agents": 2}, "unknown env_config key 'agents' of environment 'matrix_climbing'"),
        ("matrix_climing", {}, "unknown environment 'matrix_climing'; did you mean 'matrix_climbing'"),
    ],
)
def test_what_cannot_be_played(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_team_env(name, 1, **options)
