"""Both sides of a two-team game learn at once, each against the other and its earlier snapshots."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from sameness import digest, figures

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.envs import make_team_env
from k24_rllib.experiments import evaluate_checkpoint
from k24_rllib.qmix.league import ELO_FILE, expected_score
from k24_rllib.qmix.self_play import OTHER_SIDE
from k24_rllib.qmix.weights import WEIGHTS_FILE

pytestmark = pytest.mark.usefixtures("ray_session")

TAG = "mpe_simple_tag"
CONFIGS = (QMixConfig, K24QMixConfig, KaleidoscopeQMixConfig)


@pytest.fixture
def build(small: Callable[..., Any]) -> Callable[..., Any]:
    """Builds a small algorithm of predators and prey that learn at once."""

    def make(config_class: Any = QMixConfig, *, opponents: str = "self", **settings: Any) -> Any:
        config = small(config_class(), env=TAG, team="adversaries", opponents=opponents, num_good=2)
        return config.training(**{"self_play_interval": 40, "self_play_pool": 2, **settings}).build_algo()

    return make


def states(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("config_class", CONFIGS)
def test_both_sides_learn_and_a_snapshot_does_not(build: Callable[..., Any], config_class: Any) -> None:
    algo = build(config_class, self_play_pool=9)
    algo.train()
    algo.train()
    sides = algo._self_play.sides
    networks = [states(side.algorithm.policy.model) for side in sides]
    snapshots = [(side.pool.members[-1], dict(side.pool.members[-1].weights)) for side in sides]
    algo.train()
    for side, before, (snapshot, weights) in zip(sides, networks, snapshots, strict=True):
        assert not same(before, side.algorithm.policy.model.state_dict())
        assert snapshot in side.pool.members
        assert same(weights, snapshot.weights)
        assert not same(weights, side.algorithm.policy.get_weights())
    assert [side.algorithm.policy.model.num_agents for side in sides] == [3, 2]
    assert all(type(side.algorithm) is config_class().algo_class for side in sides)
    algo.stop()


@pytest.mark.parametrize(("team", "file"), [("adversaries", "weights_good.safetensors"), ("good", WEIGHTS_FILE)])
def test_frozen_opponents_stay_as_they_are(
    build: Callable[..., Any], small: Callable[..., Any], tmp_path: Path, team: str, file: str
) -> None:
    """Either side of self-play as the opponents of a run of its own: they are what they were, and learn nothing."""
    donor = build()
    donor.train()
    donor.save_to_path(tmp_path)
    side = side_of(donor, "good" if team == "adversaries" else "adversaries")
    expected = states(side.algorithm.policy.model)
    donor.stop()
    config = small(QMixConfig(), env=TAG, team=team, opponents=str(tmp_path / file), num_good=2)
    algo = config.build_algo()
    algo.train()
    own = states(algo.policy.model)
    algo.train()
    assert same(expected, algo.env_runner.team_env._opponents._model.state_dict())
    assert not same(own, algo.policy.model.state_dict())
    algo.stop()


def test_the_opponents_in_a_round_are_who_was_drawn(build: Callable[..., Any]) -> None:
    """A side plays against the other as it is, or a snapshot of it, in the shares that were asked for."""
    algo = build(self_play_current=0.25)
    algo.train()
    algo.train()
    self_play = algo._self_play
    first, second = self_play.sides
    drawn = []
    for number in range(400):
        algo._rounds._next = number
        drawn.append(self_play._opponent(first, second))
    current = np.mean([player is second.player for player in drawn])
    assert current == pytest.approx(0.25, abs=0.06)
    second.pool.members[0].beaten, second.pool.members[1].beaten = 0.9, 0.1
    often = [self_play._opponent(first, second).steps for algo._rounds._next in range(400)]
    assert often.count(second.pool.members[1].steps) > 10 * often.count(second.pool.members[0].steps)
    snapshot = second.pool.members[0]
    played = second.as_opponents(snapshot)._model.agent.state_dict()
    assert same(snapshot.weights, {name: value.numpy() for name, value in played.items()})
    assert second.as_opponents(second.player)._model is second.algorithm.policy.model
    algo.stop()


@pytest.mark.parametrize("config_class", [QMixConfig, K24QMixConfig])
def test_a_restored_run_is_the_one_that_was_not_stopped(
    build: Callable[..., Any], tmp_path: Path, config_class: Any
) -> None:
    def both(algo: Any) -> tuple[Any, str]:
        return figures(algo), digest(algo._self_play.other.policy)

    whole = build(config_class)
    for _ in range(3):
        whole.train()
    whole.save_to_path(tmp_path)
    expected = [both(whole) for _ in range(3)]
    whole.restore_from_path(tmp_path)
    assert [both(whole) for _ in range(3)] == expected
    whole.stop()
    restored = Algorithm.from_checkpoint(str(tmp_path))
    assert [both(restored) for _ in range(3)] == expected
    restored.stop()


def test_a_seed_repeats_a_run_and_the_sides_do_not_share_one(build: Callable[..., Any]) -> None:
    digests = []
    for _ in range(2):
        algo = build()
        algo.train()
        digests.append([digest(side.algorithm.policy) for side in algo._self_play.sides])
        seeds = [side.algorithm.config.seed for side in algo._self_play.sides]
        algo.stop()
    assert digests[0] == digests[1]
    assert seeds[0] != seeds[1]


def test_results_tell_of_both_sides(build: Callable[..., Any], tmp_path: Path) -> None:
    algo = build()
    for _ in range(3):
        result = algo.train()
    told = result["self_play"]
    assert np.isfinite(
        [told["par"], told["good"]["episode_return_mean"], result["env_runners"]["episode_return_mean"]]
    ).all()
    for side, other in (("adversaries", "good"), ("good", "adversaries")):
        assert 0.0 <= told[side]["win_rate"] <= 1.0
        assert set(told[side]["win_rates"]) == {member.name for member in side_of(algo, other).pool.members}
        assert told[side]["elo"] == side_of(algo, side).player.elo
    learned = result["info"]["learner"]
    assert set(learned) == {"default_policy", OTHER_SIDE}
    assert learned["default_policy"]["loss"] != learned[OTHER_SIDE]["loss"]
    assert 0.0 < result["timers"]["opponents_share"] < 1.0
    algo.save_to_path(tmp_path)
    rows = list(csv.DictReader((tmp_path / ELO_FILE).read_text().splitlines()))
    players = [player for side in algo._self_play.sides for player in (*side.pool.members, *side.pool.retired)]
    assert len(rows) == len(players) + 2 > 7
    ratings = [float(row["elo"]) for row in rows]
    assert ratings == sorted(ratings, reverse=True)
    algo.stop()
    for place, is_told in ((tmp_path, True), (tmp_path / "weights_good.safetensors", False)):
        evaluation = evaluate_checkpoint(place, 3)
        assert np.isfinite(evaluation.mean)
        assert any("elo" in line for line in evaluation.lines()) == is_told


def test_a_game_counts_the_same_from_either_side(build: Callable[..., Any]) -> None:
    algo = build()
    algo.train()
    self_play, margins = algo._self_play, np.array([-5.0, 1.0, 2.0, 30.0])
    scores = []
    for place, sign in ((0, 1.0), (1, -1.0)):
        self_play.par = 1.5
        side, other = self_play.sides[place], self_play.sides[1 - place]
        before = side.player.elo - other.player.elo
        scores.append(self_play._rate(side, other.player, sign * margins))
        assert self_play.par > 1.5  # the mean margin is 7 from the first side's view, whoever played
        assert np.sign(side.player.elo - other.player.elo - before) == np.sign(scores[-1] - expected_score(before, 0.0))
    assert scores == [0.5, 0.5]
    self_play.par = 0.0
    assert self_play._rate(self_play.sides[0], self_play.sides[1].player, margins) == 0.75
    self_play.par = 0.0
    assert self_play._rate(self_play.sides[1], self_play.sides[0].player, -margins) == 0.25
    algo.stop()


def side_of(algo: Any, name: str) -> Any:
    return next(side for side in algo._self_play.sides if side.player.side == name)


def test_evaluations_are_against_the_script(build: Callable[..., Any]) -> None:
    """So that returns can be compared over time: what the other side has learned has no part in them."""
    algo = build()
    algo.train()
    scripted = make_team_env(TAG, 5, team="adversaries", opponents="scripted", num_good=2, max_cycles=5)
    mine = algo.make_env(5)
    step, other = mine.reset(3), scripted.reset(3)
    for _ in range(5):
        step, other = (env.step(np.ones((5, 3), int)) for env in (mine, scripted))
    np.testing.assert_array_equal(step.state, other.state)
    assert len(algo.evaluate_greedy(5, seed=0)["episode_returns"]) == 5
    algo.stop()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_opponents_share_of_a_rollout_is_told_where_there_are_any(small: Callable[..., Any], workers: int) -> None:
    for env, options, is_told in ((TAG, {"opponents": "scripted"}, True), ("mpe_simple_spread", {}, False)):
        config = small(QMixConfig(), env=env, **options).env_runners(num_env_runners=workers)
        algo = config.build_algo()
        timers = algo.train()["timers"]
        assert ("opponents_share" in timers) == is_told
        assert 0.0 < timers.get("opponents_share", 0.5) < 1.0
        algo.stop()


def test_self_play_begins_from_a_checkpoint_of_other_opponents(
    build: Callable[..., Any], small: Callable[..., Any], tmp_path: Path
) -> None:
    """A team that learned against a script goes on against a side that begins to learn."""
    donor = small(QMixConfig(), env=TAG, team="adversaries", opponents="scripted", num_good=2).build_algo()
    donor.train()
    donor.save_to_path(tmp_path)
    algo = build()
    algo.restore_from_path(tmp_path)
    assert same(states(donor.policy.model), algo.policy.model.state_dict())
    result = algo.train()
    assert result["timesteps_total"] == 80
    assert algo._self_play.sides[0].pool.members[0].steps == 40
    donor.stop()
    algo.stop()


@pytest.mark.parametrize(
    ("opponents", "settings", "message"),
    [
        ("self", {"num_env_runners": 1}, r"num_env_runners: got 1 with opponents 'self', expected 0"),
        ("scripted", {"self_play_pool": 3}, r"self_play_pool: got 3, expected env_config: {opponents: self} with it"),
        ("self", {"self_play_pool": 0}, r"self_play_pool: got 0, expected a whole number at least 1"),
        ("self", {"self_play_interval": 0}, r"self_play_interval: got 0"),
        ("self", {"self_play_current": 1.5}, r"self_play_current: got 1.5, expected a number at least 0.0 and at most"),
    ],
)
def test_what_cannot_be_asked(opponents: str, settings: dict[str, Any], message: str) -> None:
    config = QMixConfig().environment(TAG, env_config={"opponents": opponents})
    with pytest.raises(ConfigError, match=message):
        config.apply_dict(settings).validate()
