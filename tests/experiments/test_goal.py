"""A resumed run goes on to the stop values that it began with, and shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from k24_rllib.experiments.experiment import Experiment
from k24_rllib.experiments.goal import GOAL_FILE, with_goal


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment("tiny", "QMix", {}, stop={"timesteps_total": 500.0}, storage_path=str(tmp_path))


def test_a_resumed_run_has_the_goal_of_its_first_command(experiment: Experiment) -> None:
    begun = replace(experiment, stop={"timesteps_total": 200.0})
    assert with_goal(begun, resume=False) is begun
    assert with_goal(experiment, resume=True) == begun
    assert with_goal(experiment, resume=False).stop == experiment.stop  # a new run has a new one
    assert with_goal(begun, resume=True).stop == experiment.stop


@pytest.mark.parametrize("left", [None, "", "{", "[]"])
def test_without_a_note_the_files_goal_stands(experiment: Experiment, left: str | None) -> None:
    if left is not None:
        Path(experiment.directory).mkdir()
        (Path(experiment.directory) / GOAL_FILE).write_text(left)
    assert with_goal(experiment, resume=True) is experiment


def test_results_on_another_machine_have_no_note(experiment: Experiment) -> None:
    away = replace(experiment, storage_path="s3://bucket/results")
    assert with_goal(away, resume=False) is away
    assert with_goal(away, resume=True) is away
