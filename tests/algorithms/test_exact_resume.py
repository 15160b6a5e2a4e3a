"""A run that is stopped and goes on from its checkpoint is, bit for bit, the run that was never stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from sameness import ARRANGEMENTS, figures

from k24_rllib import K24QMixConfig, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.qmix import resume

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def build(small: Callable[..., Any]) -> Callable[..., Any]:
    """Builds a small algorithm with greedy evaluations and, on request, workers."""

    def make(workers: int = 0, ahead: int = 0, *, seed: int | None = 0, evaluates: bool = True, **settings: Any) -> Any:
        config = small(K24QMixConfig()).env_runners(num_env_runners=workers)
        config.training(rollouts_ahead=ahead, total_env_steps=2_000, **settings).debugging(seed=seed)
        config.evaluation(evaluation_interval=2 if evaluates else None)
        return config.build_algo()

    return make


@pytest.fixture(scope="module")
def whole(build: Callable[..., Any], request: pytest.FixtureRequest) -> Iterator[Any]:
    """An algorithm in one of `ARRANGEMENTS`, for all tests of that arrangement: starting workers takes long."""
    algo = build(*request.param)
    yield algo
    algo.stop()


@pytest.mark.parametrize("whole", ARRANGEMENTS, indirect=True, ids=str)
def test_a_restored_run_is_the_one_that_was_not_stopped(whole: Any, tmp_path: Path) -> None:
    for _ in range(3):
        whole.train()
    whole.save_to_path(tmp_path)
    expected = [figures(whole) for _ in range(3)]
    whole.restore_from_path(tmp_path)  # a live one forgets the rounds that it has in flight
    assert [figures(whole) for _ in range(3)] == expected
    if (whole.config.num_env_runners, whole.config.rollouts_ahead) in ((0, 0), (2, 1)):  # others: tests/reliability
        restored = Algorithm.from_checkpoint(str(tmp_path))
        assert [figures(restored) for _ in range(3)] == expected
        restored.stop()


@pytest.mark.parametrize(("workers", "ahead"), [(0, 0), (1, 1)])
def test_saving_and_evaluating_change_nothing(
    build: Callable[..., Any], tmp_path: Path, workers: int, ahead: int
) -> None:
    algo = build(workers, ahead, evaluates=False)
    algo.save_to_path(tmp_path)
    expected = [figures(algo) for _ in range(3)]
    algo.restore_from_path(tmp_path)
    for number, its in enumerate(expected):
        algo.save_to_path(tmp_path / str(number))
        algo.evaluate_greedy(3)
        algo.evaluate()
        assert figures(algo) == its
    algo.stop()


def test_planned_evaluations_change_nothing(build: Callable[..., Any]) -> None:
    digests = []
    for evaluates in (False, True):
        algo = build(evaluates=evaluates)
        digests.append([figures(algo)["digest"] for _ in range(3)])
        algo.stop()
    assert digests[0] == digests[1]


@pytest.mark.parametrize("whole", [(2, 0), (2, 1)], indirect=True, ids=str)
def test_a_killed_worker_changes_nothing(whole: Any, tmp_path: Path) -> None:
    whole.save_to_path(tmp_path)
    expected = [figures(whole) for _ in range(4)]
    whole.restore_from_path(tmp_path)
    for number, its in enumerate(expected):
        if number == 2:
            _, victim = whole.env_runner_group.foreach_env_runner(lambda worker: os.getpid(), local_env_runner=False)
            os.kill(victim, signal.SIGKILL)
        assert figures(whole) == its
    assert whole.env_runner_group.num_remote_worker_restarts() == 1
    assert len(distinct_episodes(whole)) == len(whole.local_replay_buffer)


def distinct_episodes(algo: Any) -> set[bytes]:
    episodes = algo.local_replay_buffer.get_state()["episodes"]
    return {
        obs.tobytes() + actions.tobytes() for obs, actions in zip(episodes["obs"], episodes["actions"], strict=True)
    }


def test_an_unseeded_run_goes_on_the_same_too(build: Callable[..., Any], tmp_path: Path) -> None:
    algo = build(seed=None)
    algo.train()
    algo.save_to_path(tmp_path)
    expected = figures(algo)
    restored = Algorithm.from_checkpoint(str(tmp_path))
    assert figures(restored) == expected
    other = build(seed=None)
    assert not set(distinct_episodes(algo)) & set(distinct_episodes(train(other)))
    for its in (algo, restored, other):
        its.stop()


def train(algo: Any) -> Any:
    algo.train()
    return algo


def test_a_clone_of_another_seed_keeps_its_own_streams(build: Callable[..., Any], tmp_path: Path) -> None:
    donor, same, other = build(), build(lr=0.1), build(seed=1)
    donor.train()
    donor.save_to_path(tmp_path)
    for clone in (same, other):
        clone.restore_from_path(tmp_path)
        assert clone.policy.num_grad_updates == donor.policy.num_grad_updates
    first = [its.env_runner.sample_round(its._rounds.streams, its._rounds.count()) for its in (donor, same, other)]
    np.testing.assert_array_equal(first[0].obs[:, 0], first[1].obs[:, 0])
    assert not {obs.tobytes() for obs in first[0].obs[:, 0]} & {obs.tobytes() for obs in first[2].obs[:, 0]}
    draws = [its.local_replay_buffer.sample(4).indices.tolist() for its in (donor, same, other)]
    assert draws[0] == draws[1] != draws[2]
    for its in (donor, same, other):
        its.stop()


def test_evaluating_without_a_plan_gives_a_return(build: Callable[..., Any], tmp_path: Path) -> None:
    algo = build(evaluates=False)
    algo.save_to_path(tmp_path)
    results = [algo.evaluate()["env_runners"] for _ in range(2)]
    assert [its["num_episodes"] for its in results] == [6, 6]
    assert all(np.isfinite(its["episode_return_mean"]) for its in results)
    assert results[0]["episode_return_mean"] != results[1]["episode_return_mean"]  # episodes of its own each time
    algo.restore_from_path(tmp_path)
    assert algo.evaluate()["env_runners"]["episode_return_mean"] == results[0]["episode_return_mean"]
    algo.stop()


def test_greedy_episodes_without_a_seed_are_none_of_training(build: Callable[..., Any]) -> None:
    algo = build(evaluates=False)
    first = algo.env_runner.sample_round(algo._rounds.streams, 0)
    env = algo.make_env(4)
    seeded = {env.reset(number).obs[0].tobytes() for number in range(3)}
    env.close()
    assert not seeded & {obs.tobytes() for obs in first.obs[:, 0]}
    played = [algo.evaluate_greedy(4)["episode_returns"] for _ in range(2)]
    np.testing.assert_array_equal(*played)
    assert not np.isin(played[0], first.team_reward.sum(1, dtype=np.float64)).any()
    algo.stop()


def test_checkpoints_hold_the_buffer_unless_it_is_large(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    algo = train(build(evaluates=False))
    assert "codec" in algo.__getstate__()["local_replay_buffer"]["episodes"]
    monkeypatch.setattr(resume, "LARGEST_BUFFER", 1)
    assert "local_replay_buffer" not in algo.__getstate__()
    algo.config._is_frozen = False
    algo.config.training(store_buffer_in_checkpoints=True)
    assert "local_replay_buffer" in algo.__getstate__()
    algo.config.training(store_buffer_in_checkpoints=False)
    assert "local_replay_buffer" not in algo.__getstate__()
    algo.stop()


def test_a_newer_format_is_refused_by_name(build: Callable[..., Any]) -> None:
    algo = build(evaluates=False)
    state = {**algo.__getstate__(), resume.FORMAT_KEY: resume.FORMAT + 1}
    with pytest.raises(ConfigError, match=r"^checkpoint: got format 2, expected at most 1: .*newer k24_rllib.*$"):
        algo.__setstate__(state)
    algo.stop()


def test_the_workers_of_a_restored_run_may_be_others(build: Callable[..., Any], tmp_path: Path) -> None:
    ahead = build(1, 1, evaluates=False)
    ahead.train()
    taken = ahead._rounds.get_state()["in_flight"][0]["number"]
    ahead.save_to_path(tmp_path / "ahead")
    alone = build(evaluates=False)
    alone.restore_from_path(tmp_path / "ahead")
    assert alone._rounds.get_state() == {"next": taken, "in_flight": []}
    steps = alone.train()["timesteps_total"]
    alone.save_to_path(tmp_path / "alone")
    alone.stop()
    ahead.restore_from_path(tmp_path / "alone")
    assert ahead.train()["timesteps_total"] > steps
    ahead.stop()


def test_a_diversity_window_may_change(small: Callable[..., Any], bare_policy: Callable[..., Any]) -> None:
    policy, episodes = bare_policy(small(K24QMixConfig()).k24(div_window=4))
    for _ in range(6):
        policy.learn_on_batch(episodes)
    ring = policy.diversity.history  # updates 4, 5, 2, 3
    for window, expected in ((2, ring[:, [0, 1]]), (8, torch.cat((ring.new_zeros(2, 2), ring[:, [2, 3, 0, 1]]), 1))):
        other, _ = bare_policy(small(K24QMixConfig()).k24(div_window=window))
        other.set_state(policy.get_state())
        kept = other.diversity.history[:, :6] if window == 8 else other.diversity.history
        torch.testing.assert_close(kept, expected, rtol=0, atol=0)
        assert int(other.diversity.count) == 6


def test_seeds_that_are_neighbours_share_no_episode(small: Callable[..., Any]) -> None:
    played: list[bytes] = []
    for seed in (0, 1):
        algo = small(QMixConfig()).debugging(seed=seed).build_algo()
        for worker in range(3):
            algo.env_runner.worker_index = worker
            for number in range(3):
                episodes = algo.env_runner.sample_round(algo._rounds.streams, number)
                played += [first.tobytes() for first in episodes.obs[:, 0]]
        algo.env_runner.worker_index = 0
        algo.stop()
    assert len(set(played)) == len(played) == 2 * 3 * 3 * 4
