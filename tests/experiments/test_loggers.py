"""Loggers by a key in the file: what is on, what is refused before Ray starts, and what they really write."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.experiments import read_experiments
from k24_rllib.experiments.loggers import check_loggers

Spec = dict[str, Any]
Write = Callable[..., Path]
RLLIB = [sys.executable, "-m", "k24_rllib.cli.main"]
ALWAYS = {"tensorboard": {}, "csv": {}, "json": {}}
PATIENCE_S = 300

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="the package mlflow is not installed")
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="the package wandb is not installed")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ALWAYS),
        ([], ALWAYS),
        (["tensorboard"], ALWAYS),
        ({"csv": False}, {"tensorboard": {}, "json": {}}),
        (["json", {"csv": False}, {"tensorboard": True}], {"tensorboard": {}, "json": {}}),
        ({"mlflow": False, "wandb": False}, ALWAYS),
    ],
)
def test_tensorboard_csv_and_json_are_on(given: object, expected: dict[str, Any]) -> None:
    assert check_loggers(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["tensorbord"], "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        ([3], "unknown logger 3"),
        ("csv", "loggers: got 'csv', expected a list of tensorboard, csv, json, wandb, mlflow"),
        ({"csv": 3}, "loggers: csv: got 3, expected its options, true or false"),
        ({"csv": {"path": "x"}}, "loggers: csv: got option 'path', expected none"),
    ],
)
def test_what_cannot_be_is_refused(write: Write, tiny: Spec, given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=r"experiment.yaml: ") as refused:
        read_experiments(write({**tiny, "loggers": given}))
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("k24_rllib.experiments.loggers.find_spec", lambda asked: None)
    with pytest.raises(ConfigError, match=rf"loggers: {name} .* expected after: pip install {name}$"):
        check_loggers([name])


def run(path: Path, folder: Path, **environment: str) -> Path:
    """Trains as a file says, and returns the trial's directory."""
    words = ["train", "-f", str(path), "--storage-path", str(folder)]
    env = {**os.environ, **environment}
    done = subprocess.run([*RLLIB, *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = (its for its in (folder / "tiny").iterdir() if its.is_dir())
    return trial


def test_what_is_switched_off_writes_nothing(write: Write, tiny: Spec, tmp_path: Path) -> None:
    trial = run(write({**tiny, "loggers": {"csv": False, "tensorboard": False}}), tmp_path)
    assert (trial / "result.json").stat().st_size > 0
    assert not list(trial.glob("events.*"))
    assert not (trial / "progress.csv").exists()


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """MLflow's own server on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", store, "--workers", "1"]
    log = tmp_path / "mlflow.txt"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "mlflow", *words], stdout=file, stderr=file, cwd=tmp_path)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(PATIENCE_S):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@needs_mlflow
def test_mlflow_has_the_run(write: Write, tiny: Spec, tmp_path: Path, mlflow_server: str) -> None:
    loggers = ["csv", {"mlflow": {"tracking_uri": mlflow_server, "tags": {"team": "blue"}}}]
    trial = run(write({**tiny, "loggers": loggers}), tmp_path / "results")

    import mlflow

    client = mlflow.MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (its,) = client.search_runs([experiment.experiment_id])
    assert its.info.status == "FINISHED"
    assert its.data.tags["team"] == "blue"
    assert trial.name.startswith(its.data.tags["trial_name"])
    assert its.data.params["hidden_dim"] == "8"
    history = client.get_metric_history(its.info.run_id, "env_runners/episode_return_mean")
    assert [point.step for point in history] == [100, 200, 300, 400]
    assert its.data.metrics["info/learner/default_policy/temperature"] > 0
    assert (trial / "result.json").exists()


@needs_mlflow
def test_an_option_that_mlflow_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown option of loggers: mlflow: 'tracking_url'.*'tracking_uri'"):
        check_loggers({"mlflow": {"tracking_url": "http://127.0.0.1:5000"}})


@needs_mlflow
def test_a_server_that_does_not_answer_is_named_before_ray_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConfigError, match=rf"loggers: mlflow: no answer from tracking_uri '{address}'.*refused"):
        check_loggers({"mlflow": {"tracking_uri": address}})


@needs_wandb
def test_wandb_writes_to_disk_where_it_is_offline(write: Write, tiny: Spec, tmp_path: Path) -> None:
    path = write({**tiny, "loggers": {"wandb": {"project": "mine", "dir": str(tmp_path)}}})
    run(path, tmp_path / "results", WANDB_MODE="offline")
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"pattern_entropy" in written.read_bytes()


@needs_wandb
def test_wandb_without_a_key_is_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"loggers: wandb has no API key, expected WANDB_API_KEY"):
        check_loggers(["wandb"])
    with pytest.raises(ConfigError, match=r"unknown option of loggers: wandb: 'projct'; did you mean 'project'\?"):
        check_loggers({"wandb": {"projct": "mine"}})
