"""The smacv2 adapter on a stand-in with the package's interface (smacv2_stand_in.py): StarCraft II is not to be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_play import random_actions
from smacv2_stand_in import LIMIT, STOP, StandInBattle, install

from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, TeamStep, make_team_env, smacv2


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch)
    monkeypatch.setenv("SC2PATH", str(tmp_path))


def attack(step: TeamStep) -> np.ndarray:
    """Lets all who live attack the first enemy that lives; the others wait."""
    return np.where(step.avail_actions[..., 2:].any(-1), 2 + step.avail_actions[..., 2:].argmax(-1), 0)


def wait(step: TeamStep) -> np.ndarray:
    return np.where(step.avail_actions[..., STOP], STOP, 0)


def play(env: TeamEnv, policy: Any) -> list[TeamStep]:
    steps = [env.reset(0)]
    env.check_first_step(steps[0])
    while not steps[-1].done.all():
        steps.append(env.step(policy(steps[-1])))
        env.check_arrays(steps[-1])
    return steps


@pytest.mark.usefixtures("stand_in")
def test_a_battle_that_is_won_ends() -> None:
    env = make_team_env("smacv2", 2, units=3, enemies=2)
    steps = play(env, attack)
    assert len(steps) == 3
    assert steps[-1].terminated.all()
    assert not steps[-1].truncated.any()
    assert steps[-1].won.all()
    assert not any(step.won.any() for step in steps[:-1])
    assert sum(step.team_reward for step in steps).tolist() == [14.0, 14.0]
    np.testing.assert_allclose(steps[-1].agent_rewards.sum(1), steps[-1].team_reward, rtol=1e-6)
    again = env.reset()
    assert not again.done.any()
    assert not again.won.any()


@pytest.mark.usefixtures("stand_in")
def test_a_battle_that_is_lost_ends_and_is_not_won() -> None:
    env = make_team_env("smacv2", 1, units=2, enemies=2)
    steps = play(env, wait)
    assert len(steps) == 7
    assert steps[-1].terminated.all()
    assert not steps[-1].won.any()


@pytest.mark.usefixtures("stand_in")
def test_the_dead_can_do_nothing() -> None:
    env = make_team_env("smacv2", 1, units=2, enemies=2)
    step = env.reset()
    for _ in range(3):
        step = env.step(wait(step))
    assert step.avail_actions[0].tolist() == [[True, False, False, False], [False, True, True, True]]
    with pytest.raises(ValueError, match=r"copy 0, agent 0: got 1, expected one of \[0\]"):
        env.step(np.array([[STOP, STOP]]))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("units", [4, 5])
def test_the_time_limit_cuts_but_not_a_battle_that_ends_with_it(units: int) -> None:
    steps = play(make_team_env("smacv2", 1, units=units, enemies=1), wait)
    assert len(steps) == LIMIT + 1
    assert steps[-1].truncated.tolist() == [units == 5]
    assert steps[-1].terminated.tolist() == [units == 4]


@pytest.mark.usefixtures("stand_in")
def test_a_lost_connection_cuts_and_the_copy_waits_for_the_others() -> None:
    env = make_team_env("smacv2", 2, units=5, enemies=1)
    StandInBattle.made[1].lose_connection_at = 3
    steps = play(env, wait)
    assert steps[3].truncated.tolist() == [False, True]
    for step in steps[4:]:
        np.testing.assert_array_equal(step.obs[1], steps[3].obs[1])
        np.testing.assert_array_equal(step.state[1], steps[3].state[1])
        assert step.truncated[1]
        assert step.team_reward[1] == 0.0
    assert not steps[-1].terminated.any()


@pytest.mark.usefixtures("stand_in")
def test_options_reach_the_games_and_no_two_share_what_the_package_writes_into() -> None:
    env = make_team_env("smacv2", 3, map_name="10gen_zerg", units=3, enemies=4, difficulty="A")
    first, _, last = StandInBattle.made
    assert first.given["map_name"] == "10gen_zerg"
    assert first.given["difficulty"] == "A"
    assert first.given["capability_config"]["team_gen"]["unit_types"][0] == "zergling"
    assert first.given["capability_config"]["start_positions"] is not last.given["capability_config"]["start_positions"]
    assert (env.num_agents, env.num_actions) == (3, 6)
    steps = play(env, lambda step: random_actions(step.avail_actions, np.random.default_rng(0)))
    assert steps[0].obs[0, :, 0].tolist() == [0, 1, 2]
    env.close()
    assert all(game.closed for game in StandInBattle.made)


def test_a_missing_package_is_named_with_where_it_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smacv2, "find_spec", lambda module: None)
    with pytest.raises(
        ConfigError, match=r"environment 'smacv2': needs a package .* pip install git\+https"
    ) as refused:
        make_team_env("smacv2", 1)
    assert len(str(refused.value)) < 300


def test_a_missing_program_is_named_with_where_it_is_to_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch)
    monkeypatch.setenv("SC2PATH", str(tmp_path / "none"))
    with pytest.raises(
        ConfigError, match=r"environment 'smacv2': no StarCraft II in .*none .*s2client-proto"
    ) as refused:
        make_team_env("smacv2", 1)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_name": "10gen_teran"}, r"unknown map_name '10gen_teran'; did you mean '10gen_terran'"),
        ({"units": 0}, r"units: got 0"),
        ({"enemies": 2.5}, r"enemies: got 2.5"),
        ({"dificulty": "7"}, r"unknown env_config key 'dificulty' of environment 'smacv2'; did you mean 'difficulty'"),
        ({"continuing_episode": False}, r"unknown env_config key 'continuing_episode'"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_team_env("smacv2", 1, **options)
