"""Level-based foraging and the robot warehouse, where they are installed; and what is said where they aren't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_play import random_actions

from k24_rllib.checks import ConfigError
from k24_rllib.envs import gymnasium_tuple, make_team_env
from k24_rllib.envs.gymnasium_tuple import FAMILIES, FORAGING

EPISODES = 200


def play(name: str, copies: int, seed: int, **options: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Plays an episode in each copy and returns team returns, last observations and steps."""
    env, rng = make_team_env(name, copies, **options), np.random.default_rng(seed)
    step, returns, steps = env.reset(seed), np.zeros(copies), 0
    while not step.done.all():
        step, steps = env.step(random_actions(step.avail_actions, rng)), steps + 1
        returns += step.team_reward
    env.close()
    return returns, step.obs, steps


@pytest.mark.parametrize("name", FAMILIES)
def test_episodes_repeat_from_their_seed_and_end_by_their_limit(name: str) -> None:
    pytest.importorskip(name)
    first, again, other = (play(name, 2, seed, max_cycles=12) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()
    assert first[2] == 12


def test_the_limit_cuts_an_episode_and_collecting_everything_ends_it() -> None:
    pytest.importorskip("lbforaging")
    env, rng = make_team_env("lbforaging", EPISODES, task="Foraging-5x5-2p-1f-v3"), np.random.default_rng(0)
    step, returns = env.reset(0), np.zeros(EPISODES)
    while not step.done.all():
        step = env.step(random_actions(step.avail_actions, rng))
        returns += step.team_reward
    collected = returns > 0.99
    assert 0 < collected.sum() < EPISODES
    assert step.terminated[~collected].sum() == 0
    assert step.truncated[~collected].all()
    assert (step.terminated[collected] != step.truncated[collected]).all()
    assert step.terminated[collected].mean() > 0.9  # the others collected it in their last step


def test_random_play_is_where_scores_begin() -> None:
    pytest.importorskip("lbforaging")
    returns, _, _ = play("lbforaging", EPISODES, 0)
    assert returns.max() <= 1.0 + 1e-6
    expected = FORAGING.random[FORAGING.task]
    assert returns.mean() == pytest.approx(expected, abs=4 * returns.std() / EPISODES**0.5)
    assert make_team_env("lbforaging", 1).score_reference == (expected, 1.0)
    assert make_team_env("lbforaging", 1, max_cycles=10).score_reference is None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_package_is_named_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium_tuple, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=rf"environment '{name}': needs .* pip install 'k24_rllib\[\w+\]'"):
        make_team_env(name, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"task": "Foraging-8x8-2p-3f-v2"},
            r"unknown task 'Foraging-8x8-2p-3f-v2'; did you mean 'Foraging-8x8-2p-3f-v3'",
        ),
        ({"task": 3}, r"unknown task 3"),
        ({"max_cycles": 0}, r"max_cycles: got 0"),
        ({"team_reward": "some"}, r"team_reward: got 'some'"),
        ({"tsk": 1}, r"unknown env_config key 'tsk' of environment 'lbforaging'; did you mean 'task'"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    pytest.importorskip("lbforaging")
    with pytest.raises(ConfigError, match=message):
        make_team_env("lbforaging", 1, **options)
