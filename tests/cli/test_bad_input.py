"""Whatever the user gets wrong: one line that names it, exit code 2, before Ray starts."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

Spec = dict[str, Any]
Call = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]


def assert_one_error_line(outcome: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert outcome.returncode == 2, outcome
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("rllib: error: "), outcome.stderr
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert outcome.stderr.endswith("\n")
    for part in parts:
        assert part in outcome.stderr, (part, outcome.stderr)
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"run": "K24QMx"}, ["unknown algorithm 'K24QMx'", "did you mean 'K24QMix'?"]),
        ({"run": None}, ["run: is missing", "K24QMix"]),
        ({"env": "mpe_simple_spred"}, ["unknown environment 'mpe_simple_spred'", "did you mean 'mpe_simple_spread'?"]),
        ({"env": None}, ["env: is missing"]),
        ({"confg": {}}, ["unknown experiment key 'confg'", "did you mean 'config'?"]),
        ({"config": [1]}, ["config: got [1]", "expected keys and values"]),
        ({"stop": {"timestep_total": 1}}, ["unknown stop key 'timestep_total'", "did you mean 'timesteps_total'?"]),
        ({"stop": {"timesteps_total": -1}}, ["timesteps_total: got -1", "above 0"]),
        ({"num_samples": 0}, ["num_samples: got 0", "at least 1"]),
        ({"num_samples": "many"}, ["num_samples: got 'many'"]),
        (
            {"checkpoint_config": {"frequency": 1}},
            ["unknown checkpoint_config key 'frequency'", "checkpoint_frequency"],
        ),
        ({"checkpoint_config": {"num_to_keep": 0}}, ["num_to_keep: got 0"]),
        ({"storage_path": __file__}, ["storage_path", "is a file"]),
        ({"max_failures": 1.5}, ["max_failures: got 1.5"]),
        ({"time_budget_s": 0}, ["time_budget_s: got 0"]),
        ({"restore": "no/such/checkpoint"}, ["no/such/checkpoint", "no such directory"]),
        ({"loggers": ["tensorbord"]}, ["unknown logger 'tensorbord'", "did you mean 'tensorboard'?"]),
    ],
)
def test_experiment_keys(call: Call, write: Write, tiny: Spec, change: Spec, parts: list[str]) -> None:
    path = write(tiny | change)
    outcome = call("train", "-f", path)
    assert_one_error_line(outcome, *parts)
    if "restore" not in change:
        assert str(path) in outcome.stderr


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"temperatur_init": 5}, ["unknown config key 'temperatur_init'", "did you mean 'temperature_init'?"]),
        ({"lr": "fast"}, ["lr: got 'fast'", "number"]),
        ({"lr": -1.0}, ["lr: got -1.0"]),
        ({"hidden_dim": 2.5}, ["hidden_dim: got 2.5", "whole number"]),
        ({"temperature_init": 0.0}, ["temperature", "0.0"]),
        ({"num_envs_per_env_runner": 0}, ["num_envs_per_env_runner: got 0"]),
        ({"num_env_runners": -1}, ["num_env_runners: got -1"]),
        ({"env_config": {"N": 0}}, ["N: got 0"]),
        ({"env_config": {"agents": 3}}, ["agents"]),
        ({"env_config": [3]}, ["env_config: got [3]"]),
        ({"model": None}, ["model: got None, expected keys and values"]),
        ({"num_gpus": "a"}, ["num_gpus: got 'a', expected a number"]),
        ({"callbacks": "nowhere.Callbacks"}, ["callbacks: got 'nowhere.Callbacks', RLlib says:"]),
        ({"env_config": {1: 3}}, ["1"]),
        ({"mixer": "qmxi"}, ["unknown mixer 'qmxi'", "did you mean 'qmix'?"]),
        ({"framework": "tf2"}, ["framework: got 'tf2'"]),
        ({"env": "mpe_simple_reference"}, ["env: got 'mpe_simple_spread'", "expected one of them"]),
    ],
)
def test_config_values(call: Call, write: Write, tiny: Spec, change: Spec, parts: list[str]) -> None:
    tiny["config"] |= change
    path = write(tiny)
    assert_one_error_line(call("train", "-f", path), str(path), *parts)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a: [1\nb: 2\n", "line 2"),
        ("a:\n\tb: 1\n", "line 2"),
        ("", "expected an experiment's name"),
        ("- a\n- b\n", "expected an experiment's name"),
        ("run: QMix\nenv: mpe_simple_spread\n", "'run' is at the top level"),
        ("a: 3\n", "experiment 'a' holds 3"),
        ("a/b: {run: QMix}\n", "'a/b'"),
    ],
)
def test_files_that_are_no_experiments(call: Call, write: Write, content: str, part: str) -> None:
    path = write(content)
    assert_one_error_line(call("train", "-f", path), str(path), part)


def test_files_that_cannot_be_read(call: Call, tmp_path: Path) -> None:
    assert_one_error_line(call("train", "-f", tmp_path / "missing.yaml"), "missing.yaml", "no such file")
    assert_one_error_line(call("train", "-f", tmp_path), "is a directory")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert_one_error_line(call("train", "-f", tmp_path / "binary.yaml"), "not a text file")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "lr"], ["--set lr", "expected key=value"]),
        (["--set", "=3"], ["--set =3", "expected key=value"]),
        (["--set", "seed.inner=3"], ["--set seed.inner=3", "seed is 0"]),
        (["--set", "learning_rate=1"], ["unknown config key 'learning_rate'"]),
        (["--set", "lr=[1"], ["--set lr=[1"]),
        (["--import", "no_such_module"], ["--import no_such_module: no such module"]),
        (["--stop", "timesteps_total"], ["--stop timesteps_total", "expected key=value or JSON"]),
        (["--stop", '{"timesteps_total": 5'], ["--stop"]),
        (["--stop", '{"steps": 5}'], ["unknown --stop key 'steps'"]),
        (["--seed", "one"], ["--seed: got 'one'", "whole number"]),
        (["--num-samples", "0"], ["--num-samples: got '0'", "at least 1"]),
        (["--checkpoint-freq", "-1"], ["--checkpoint-freq"]),
        (["--storage-path", __file__], ["storage_path", "is a file"]),
        (["--storage-path", "s4://bucket/x"], ["unknown kind of storage 's4'", "did you mean 's3'?"]),
        (["--storage-path", "/proc/nobody"], ["storage_path: /proc/nobody/tiny can't be written to"]),
        (["--stpo", "a=1"], ["unexpected argument '--stpo'", "did you mean '--stop'?"]),
        (["extra.yaml"], ["unexpected argument 'extra.yaml'"]),
        (["--restore", "nowhere"], ["nowhere", "no such directory"]),
        (["--restore", __file__], ["is a file"]),
        (["--resume", "--set", "lr=1"], ["--set", "--resume"]),
    ],
)
def test_options(call: Call, write: Write, tiny: Spec, words: list[str], parts: list[str]) -> None:
    assert_one_error_line(call("train", "-f", write(tiny), *words), *parts)


def test_nothing_to_resume(call: Call, write: Write, tiny: Spec, tmp_path: Path) -> None:
    outcome = call("train", "-f", write(tiny), "--storage-path", tmp_path / "results", "--resume")
    assert_one_error_line(outcome, "nothing to resume", str(tmp_path / "results" / "tiny"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["unknown command 'trian'", "did you mean 'train'?"]),
        (["train"], ["which file?", "train -f FILE"]),
        (["train", "-f"], ["-f", "expected one argument"]),
        (["evaluate"], ["which checkpoint?"]),
        (["evaluate", "x", "--episodes", "0"], ["--episodes: got '0'"]),
        (["evaluate", "x", "--episode", "3"], ["did you mean '--episodes'?"]),
        (["evaluate", "nowhere"], ["nowhere", "no such directory"]),
    ],
)
def test_commands(call: Call, words: list[str], parts: list[str]) -> None:
    assert_one_error_line(call(*words), *parts)


def test_checkpoints_that_are_none(call: Call, tmp_path: Path) -> None:
    assert_one_error_line(call("evaluate", tmp_path), "holds no checkpoint")
    assert_one_error_line(call("evaluate", __file__), "is a file")
    (tmp_path / "algorithm_state.pkl").write_bytes(b"not a pickle")
    assert_one_error_line(call("evaluate", tmp_path), "is incomplete: manifest.json and rllib_checkpoint.json are miss")
    (tmp_path / "rllib_checkpoint.json").write_text("{}")
    assert_one_error_line(call("evaluate", tmp_path), "can't be read as part of a checkpoint")
    (tmp_path / "algorithm_state.pkl").write_bytes(pickle.dumps({"config": {"class": int}}))
    assert_one_error_line(call("evaluate", tmp_path), "is not a checkpoint of k24_rllib")


def test_a_traceback_only_on_request(call: Call, tmp_path: Path) -> None:
    outcome = call("evaluate", tmp_path / "nowhere", "-vv")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("Traceback")
    assert outcome.stderr.splitlines()[-1].startswith("rllib: error: ")


def test_as_a_program_in_under_ten_seconds(write: Write, tiny: Spec) -> None:
    tiny["config"]["temperature_init"] = 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "k24_rllib.cli.main", "train", "-f", str(write(tiny))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert_one_error_line(done, "temperature_init: got 0")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # the processor's time, which others' work doesn't lengthen
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--dashboard-host", "0.0.0.0"], ["--dashboard-host: got '0.0.0.0' without --dashboard"]),
        (["--dashboard", "--dashboard-host", "192.0.2.99"], ["--dashboard-host: got '192.0.2.99'", "0.0.0.0"]),
        (["--dashboard", "--dashboard-host", "no such"], ["--dashboard-host: got 'no such'", "expected an address"]),
        (["--dashboard", "--dashboard-host", "::1", "--ray-address", "x:1"], ["with a cluster to join"]),
    ],
)
def test_where_the_dashboard_listens(call: Call, write: Write, tiny: Spec, words: list[str], parts: list[str]) -> None:
    assert_one_error_line(call("train", "-f", write(tiny), *words), *parts)
