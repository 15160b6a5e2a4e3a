"""Runs that are killed and resumed, many times over: `make reliability`; docs/reliability.md has the figures.

`K24_CAMPAIGN` is the number of kills and resumes of each kind (20, or half of it for each arrangement of workers).
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import cloudpickle
from ray.rllib.algorithms.algorithm import Algorithm
from sameness import ARRANGEMENTS, figures

from k24_rllib import K24QMixConfig

pytestmark = pytest.mark.campaign

REPEATS = int(os.environ.get("K24_CAMPAIGN", "20"))
KILLS_OF_A_RUN = 4
ITERATIONS = 12


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "k24_rllib.cli.main", *map(str, words)]


@pytest.fixture
def train(tmp_path: Path, tiny: dict[str, Any]) -> Callable[..., subprocess.Popen[str]]:
    """Starts `rllib train` on a run of some seconds with a checkpoint after each iteration."""
    tiny["stop"] = {"timesteps_total": 1}
    tiny["checkpoint_config"] = {"checkpoint_frequency": 1, "num_to_keep": 3, "checkpoint_at_end": True}
    tiny["config"] |= {"num_envs_per_env_runner": 32, "min_sample_timesteps_per_iteration": 3_200}
    tiny["config"] |= {"buffer_episodes": 500, "updates_per_episode": 1.0, "train_batch_size": 16}
    tiny["config"] |= {"total_env_steps": 3_200 * ITERATIONS, "evaluation_interval": 3, "evaluation_duration": 10}

    def start(storage: str, *words: object, resume: bool = False, **settings: Any) -> subprocess.Popen[str]:
        file = tmp_path / f"{storage}.yaml"
        file.write_text(yaml.safe_dump({"tiny": {**tiny, "config": tiny["config"] | settings}}))
        goal = ["--resume"] if resume else ["--stop", f"timesteps_total={3_200 * ITERATIONS}"]
        return subprocess.Popen(
            command("train", "-f", file, "--storage-path", tmp_path / storage, *goal, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def end_of(process: subprocess.Popen[str], storage: Path) -> tuple[str, bytes]:
    """Waits for a run's end, and returns its greedy return and the bits of its networks and optimizer."""
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    assert f"/{3_200 * ITERATIONS:,} (100%)" in text, text  # the goal of the first command, on a resumed run too
    last = max(storage.glob("*/*/checkpoint_*"))
    state = cloudpickle.loads((last / "policies" / "default_policy" / "policy_state.pkl").read_bytes())
    kept = ("model", "target_model", "_optimizer_variables", "record", "reward_moments")
    (greedy,) = re.findall(r"greedy return +(\S+ ± \S+)", text)
    return greedy, cloudpickle.dumps([sorted_state(state[key]) for key in kept])


def sorted_state(value: Any) -> Any:
    """Returns a state whose pickle depends on its values alone."""
    if isinstance(value, dict):
        return [(str(key), sorted_state(value[key])) for key in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [sorted_state(its) for its in value]
    return (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value


def kill_at_random(process: subprocess.Popen[str], storage: Path, dice: random.Random) -> bool:
    """Kills a driver some time after its first new checkpoint, and returns whether it was still at work."""
    before = {path.name for path in storage.glob("*/*/checkpoint_*")}
    while process.poll() is None and not {path.name for path in storage.glob("*/*/checkpoint_*")} - before:
        time.sleep(0.05)
    time.sleep(dice.uniform(0.0, 3.0))
    at_work = process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    return at_work


@pytest.mark.parametrize(("workers", "ahead"), ARRANGEMENTS)
def test_a_driver_killed_at_random_ends_as_if_it_had_not_been(
    train: Callable[..., Any], tmp_path: Path, workers: int, ahead: int
) -> None:
    settings = {"num_env_runners": workers, "rollouts_ahead": ahead}
    expected = end_of(train("whole", **settings), tmp_path / "whole")
    dice, kills = random.Random(f"{workers} {ahead}"), 0
    for run in range(max(REPEATS // KILLS_OF_A_RUN // len(ARRANGEMENTS), 1)):
        storage, begun = tmp_path / str(run), False
        for _ in range(KILLS_OF_A_RUN):
            kills += kill_at_random(train(str(run), resume=begun, **settings), storage, dice)
            begun = bool(list(storage.glob("*/experiment_state*")))  # Tune writes it some seconds after the start
        assert end_of(train(str(run), resume=begun, **settings), storage) == expected
    print(f"{workers} workers, {ahead} ahead: {kills} kills, same end")
    assert kills


@pytest.fixture
def build(small: Callable[..., Any]) -> Callable[..., Any]:
    def make(workers: int, ahead: int) -> Any:
        config = small(K24QMixConfig()).env_runners(num_env_runners=workers)
        config.training(rollouts_ahead=ahead, total_env_steps=800, buffer_episodes=1_000)
        config.k24(reset_interval=120, kl_reset=True, kl_min_interval=80, kl_threshold=0.001, finetune_at=0.5)
        return config.evaluation(evaluation_interval=2).build_algo()

    return make


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("workers", "ahead"), ARRANGEMENTS)
def test_runs_resumed_at_random_iterations(build: Callable[..., Any], tmp_path: Path, workers: int, ahead: int) -> None:
    whole, expected = build(workers, ahead), []
    for number in range(ITERATIONS):
        whole.save_to_path(tmp_path / str(number))
        expected.append(figures(whole))
    whole.stop()
    dice = random.Random(f"{workers} {ahead}")
    for number in dice.choices(range(ITERATIONS - 1), k=max(REPEATS // 2, 1)):
        restored = Algorithm.from_checkpoint(str(tmp_path / str(number)))
        assert [figures(restored) for _ in range(number, ITERATIONS)] == expected[number:]
        restored.stop()
    print(f"{workers} workers, {ahead} ahead: {max(REPEATS // 2, 1)} resumes, same results")


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("ahead", [0, 1])
def test_workers_killed_at_random_lose_nothing(build: Callable[..., Any], ahead: int) -> None:
    iterations = max(REPEATS // 2, 1) + 2
    undisturbed = build(2, ahead)
    expected = [figures(undisturbed) for _ in range(iterations)]
    undisturbed.stop()
    algo, dice, results = build(2, ahead), random.Random(ahead), []
    for number in range(iterations):
        if 0 < number < iterations - 1:
            pids = algo.env_runner_group.foreach_env_runner(lambda worker: os.getpid(), local_env_runner=False)
            os.kill(dice.choice(pids), signal.SIGKILL)
        results.append(figures(algo))
    assert algo.env_runner_group.num_remote_worker_restarts() == iterations - 2
    assert results == expected
    episodes = algo.local_replay_buffer.get_state()["episodes"]
    rounds = zip(episodes["obs"], episodes["actions"], strict=True)
    assert len({obs.tobytes() + actions.tobytes() for obs, actions in rounds}) == len(algo.local_replay_buffer)
    algo.stop()
    print(f"{ahead} ahead: {iterations - 2} kills, same results, no episode twice")
