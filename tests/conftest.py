"""Fixtures shared by all floors: a small Ray, configurations and files shrunk in every size, trials on disk."""

import copy
import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

torch.set_num_threads(1)
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # few of these Rays need the workers it keeps ready

TINY: dict[str, Any] = {
    "run": "K24QMix",
    "env": "mpe_simple_spread",
    "stop": {"timesteps_total": 400},
    "config": {
        "env_config": {"N": 2},
        "seed": 0,
        "num_env_runners": 0,
        "num_envs_per_env_runner": 4,
        "min_sample_timesteps_per_iteration": 100,
        "train_batch_size": 4,
        "learning_starts_episodes": 4,
        "buffer_episodes": 16,
        "updates_per_episode": 0.25,
        "hidden_dim": 8,
        "mixing_embed_dim": 4,
        "hypernet_dim": 4,
    },
}


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """A local Ray with four logical CPUs and no dashboard, for the tests of one file."""
    import ray

    import k24_rllib

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    k24_rllib.register_all()  # an earlier file's Ray has taken the registrations with it
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small() -> Callable:
    """Shrinks a configuration: 2 agents, 5 steps, tiny networks, an update per training step."""

    def shrink(config, env: str = "mpe_simple_spread", **env_config):
        env_config = {"max_cycles": 5, **({"N": 2} if env == "mpe_simple_spread" else {}), **env_config}
        config.environment(env, env_config=env_config)
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        config.training(
            train_batch_size=4,
            learning_starts_episodes=4,
            updates_per_episode=0.5,
            buffer_episodes=16,
            target_update_episodes=8,
            target_update_tau=None,
            lr=5e-4,
            hidden_dim=8,
            mixing_embed_dim=4,
            hypernet_dim=8,
        )
        config.reporting(min_sample_timesteps_per_iteration=40)
        config.evaluation(evaluation_duration=6)
        config.debugging(seed=0, log_level="ERROR")
        return config

    return shrink


@pytest.fixture
def first_draft() -> Callable:
    """Gives K-2:4 the phases of the first write-ups, in which every event of the method comes within a run."""

    def phases(config):
        return config.k24(temperature_init=5.0, temperature_final=0.2, temperature_end=0.8, finetune_at=0.8)

    return phases


@pytest.fixture
def bare_policy() -> Callable:
    """Builds a configuration's policy, without Ray, and 8 episodes that it played."""
    from k24_rllib.envs import make_team_env
    from k24_rllib.qmix.rollout import collect_episodes

    def build(config, seed: int = 0):
        torch.manual_seed(seed)
        policy = config.build_policy()
        env = make_team_env(config.env, 8, **config.env_config)
        episodes = collect_episodes(env, policy.model, epsilon=1.0, explore=True, seed=0)
        env.close()
        policy.reward_moments.update(episodes.team_reward[episodes.valid()])
        return policy, episodes

    return build


@pytest.fixture
def tiny() -> dict[str, Any]:
    """An experiment that trains in a second or two, to be changed at will."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def tiny_once() -> dict[str, Any]:
    """The same experiment for fixtures that are made once."""
    return copy.deepcopy(TINY)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes text, or an experiment by its name, to a YAML file."""

    def write_file(content: str | dict[str, Any], name: str = "experiment.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump({"tiny": content}, sort_keys=False))
        return path

    return write_file


@pytest.fixture
def make_trial(tmp_path: Path) -> Callable[..., Path]:
    """Writes a trial's directory as Tune lays it out."""

    def make(lines: Sequence[str], place: str = "exp/QMix_spread_0", **settings: Any) -> Path:
        trial = tmp_path / place
        trial.mkdir(parents=True)
        config = {"env": "mpe_simple_spread", "env_config": {"N": 3}, "evaluation_interval": 1, "seed": 0, **settings}
        (trial / "params.json").write_text(json.dumps({key: v for key, v in config.items() if v is not None}))
        (trial / "result.json").write_text("".join(f"{text}\n" for text in lines))
        return trial

    return make


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls the command line in this process, and returns what a process of its own would have given."""
    from k24_rllib.cli.main import main

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = [str(word) for word in words]
        code = main(arguments)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _restore_log_levels() -> Iterator[None]:
    """The command silences Ray's loggers in its process; here that process goes on."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.rllib")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
