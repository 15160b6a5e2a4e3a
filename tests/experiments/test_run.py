"""Running an experiment as a notebook does: read, run, evaluate, with a Ray that is there already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from k24_rllib.experiments import Overrides, RunOptions, evaluate_checkpoint, ray_for, read_experiments, run_experiment

Spec = dict[str, Any]
Write = Callable[..., Path]


@pytest.mark.usefixtures("ray_session")
def test_an_experiment_is_run_and_evaluated(
    write: Write, tiny: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (experiment,) = read_experiments(str(write(tiny)), Overrides(storage_path=str(tmp_path)))
    with ray_for([experiment], RunOptions()):
        outcome = run_experiment(experiment)
    assert ray.is_initialized()  # it was there before
    assert "starting Ray" not in capsys.readouterr().out
    assert (outcome.stopped_by, outcome.failed) == (None, [])
    (trial,) = outcome.finished
    assert Path(trial.checkpoint.path).is_relative_to(tmp_path / "tiny")
    first, again = (evaluate_checkpoint(Path(trial.checkpoint.path), episodes=5) for _ in range(2))
    assert first == again
    assert first.episodes == 5


@pytest.mark.usefixtures("ray_session")
def test_the_first_round_is_told_long_before_the_first_result(
    write: Write, tiny: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny["config"] |= {"min_sample_timesteps_per_iteration": 20_000, "updates_per_episode": 0.01}
    (experiment,) = read_experiments(
        str(write(tiny)), Overrides(storage_path=str(tmp_path), stop=["timesteps_total=20000"])
    )
    run_experiment(experiment)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("steps ")]
    assert lines[0].startswith("steps 100/20,000 (0%) | return -")
    assert lines[-1].startswith("steps 20,000/20,000 (100%)")
