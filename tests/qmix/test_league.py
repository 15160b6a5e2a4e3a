"""Who is drawn from a pool, who leaves it, and that ratings follow strength."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from k24_rllib.envs import make_team_env
from k24_rllib.envs.mpe import TwoTeamMPE
from k24_rllib.envs.mpe.scripts import SCRIPTS
from k24_rllib.qmix.league import FIRST_ELO, Player, Pool, elo_table, expected_score, games_won

TAG = "mpe_simple_tag"


def pool_of(*beaten: float, size: int = 10) -> Pool:
    pool = Pool(size)
    for number, share in enumerate(beaten):
        pool.add(Player("good", number, {"w": number}, beaten=share))
    return pool


def test_what_one_side_wins_the_other_loses() -> None:
    margins = np.array([-3.0, 1.0, 2.0, 7.0])
    np.testing.assert_array_equal(games_won(margins, 2.0), [0.0, 0.0, 0.5, 1.0])
    np.testing.assert_array_equal(games_won(margins, 2.0) + games_won(-margins, -2.0), 1.0)


def test_those_are_drawn_most_that_win_most() -> None:
    pool, rng = pool_of(0.9, 0.5, 0.0), np.random.default_rng(0)
    drawn = np.bincount([pool.draw(rng).steps for _ in range(5_000)], minlength=3) / 5_000
    np.testing.assert_allclose(drawn, np.array([0.1, 0.5, 1.0]) ** 2 / 1.26, atol=0.02)


def test_where_all_are_beaten_always_each_is_drawn() -> None:
    np.testing.assert_array_equal(pool_of(1.0, 1.0).chances(), [0.5, 0.5])


def test_a_full_pool_lets_go_of_the_one_that_is_beaten_most_and_never_of_the_newest() -> None:
    pool = pool_of(0.2, 0.8, 0.3, size=3)
    pool.add(Player("good", 3, {"w": 3}, beaten=1.0))
    assert [member.steps for member in pool.members] == [0, 2, 3]
    assert [(player.steps, player.weights) for player in pool.retired] == [(1, None)]
    pool.add(Player("good", 4, {"w": 4}))
    assert [member.steps for member in pool.members] == [0, 2, 4]


def test_a_pool_of_one_holds_the_newest() -> None:
    assert [member.steps for member in pool_of(0.1, 0.2, size=1).members] == [1]


def test_ratings_predict_as_in_chess_and_none_is_made_of_nothing() -> None:
    assert expected_score(1400.0, 1000.0) == pytest.approx(10 / 11)
    learner, member = Player("adversaries", 0), Player("good", 0)
    for _ in range(300):
        member.met(learner, 0.75)
    assert learner.elo + member.elo == pytest.approx(2 * FIRST_ELO)
    assert expected_score(learner.elo, member.elo) == pytest.approx(0.75, abs=0.02)
    assert member.beaten == pytest.approx(0.75, abs=0.01)


def test_the_stronger_of_two_snapshots_is_rated_above_the_weaker() -> None:
    """Games of tag: scripted predators against prey that flee, and against prey that move at random."""
    learner, flees, strays = Player("adversaries", 0), Player("good", 2), Player("good", 1)
    margins = {}
    for player, way in ((flees, "scripted"), (strays, "random")):
        env = make_team_env(TAG, 64, team="adversaries", opponents=way)
        assert isinstance(env, TwoTeamMPE)
        step = env.reset(0)
        while not step.done.all():
            step = env.step(SCRIPTS[TAG]["adversaries"](env.engine.scenario, env.side, env.opponents))
        margins[player.steps] = env.margins()
    par = float(np.mean([its.mean() for its in margins.values()]))
    for _ in range(10):
        for player in (flees, strays):
            player.met(learner, float(games_won(margins[player.steps], par).mean()))
    assert flees.elo > strays.elo + 30
    assert flees.beaten < strays.beaten


def test_the_table_holds_everybody_the_strongest_first() -> None:
    pool = pool_of(0.2, 0.8, 0.3, size=2)
    pool.members[0].elo = 1200.0
    rows = list(csv.DictReader(elo_table([Player("adversaries", 9, elo=1100.0)], [pool]).splitlines()))
    assert [row["player"] for row in rows[:2]] == ["good@0", "adversaries"]
    assert {row["player"]: row["in_pool"] for row in rows} == {
        "good@0": "yes",
        "good@1": "no",
        "good@2": "yes",
        "adversaries": "learner",
    }


def test_a_state_brings_back_everything() -> None:
    pool, again = pool_of(0.2, 0.8, 0.3, size=2), Pool(2)
    again.set_state(pool.get_state())
    assert (again.members, again.retired) == (pool.members, pool.retired)
