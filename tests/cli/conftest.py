"""Shared by the command line's tests: an experiment with every size shrunk, and `main` called in this process."""

from __future__ import annotations

import copy
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

PATIENCE_S = 300
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
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls the command line in this process, and returns what a process of its own would have given."""
    from k24_rllib.cli.main import main

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = [str(word) for word in words]
        code = main(arguments)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)

    return run


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


@pytest.fixture(scope="session")
def interrupt() -> Callable[..., str]:
    """Runs the real command, stops it while it trains as Ctrl-C in a terminal does, and returns what it printed."""

    def run(words: Sequence[str], job: str = "") -> str:
        """Interrupts at the first line of progress that follows a line beginning with `job`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "k24_rllib.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("steps ") and any(earlier.startswith(job) for earlier in lines):
                    os.killpg(process.pid, signal.SIGINT)
                    break
            lines += process.stdout
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert code == 130, "".join(lines)
        return "".join(lines)

    return run


@pytest.fixture(autouse=True)
def _restore_log_levels() -> Iterator[None]:
    """The command silences Ray's loggers in its process; here that process goes on."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.rllib")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
