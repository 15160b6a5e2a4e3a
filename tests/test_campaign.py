"""The campaign over methods and tasks: real runs, tiny ones, on Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import campaign
from k24_rllib.checks import ConfigError
from k24_rllib.comparison.points_csv import read_points
from k24_rllib.experiments.yaml_reader import read_yaml_file

TINY = """
shared: {num_envs_per_env_runner: 8, hidden_dim: 8, learning_starts_episodes: 8, train_batch_size: 8}
methods:
  dense: {run: QMix}
  masked: {run: K24QMix, config: {div_coef: 0.0}}
tasks:
  game: {env: matrix_climbing, steps: 100}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def test_runs_are_made_once_and_read_again(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tiny), "--out", str(tmp_path / "out"), "--seeds", "2", "--processes", "1"]
    assert campaign.main([*words, "--csv", str(tmp_path / "points.csv")]) == 0
    printed = capsys.readouterr().out
    assert "4 runs to make, 0 finished before" in printed
    assert "matrix_climbing" in printed
    runs = read_points(tmp_path / "points.csv", metrics=["pattern_mean_similarity"])
    assert {(run.label, run.seed) for run in runs} == {(name, seed) for name in ("dense", "masked") for seed in (0, 1)}
    assert all(run.last_step >= 100 and len(run.points) > 1 for run in runs)
    masked = next(run for run in runs if run.label == "masked")
    assert 0 < masked.readings("pattern_mean_similarity")[-1].value <= 1

    assert campaign.main(words) == 0
    assert "0 runs to make, 4 finished before" in capsys.readouterr().out

    elsewhere = ["--out", str(tmp_path / "other"), "--known", str(tmp_path / "points.csv")]
    again = [str(tiny), *elsewhere, "--seeds", "2", "--processes", "1", "--csv", str(tmp_path / "again.csv")]
    assert campaign.main(again) == 0  # what a CSV file has is not run again, and all of it is kept
    assert "0 runs to make, 0 finished before" in capsys.readouterr().out
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "points.csv").read_text()


def test_results_of_other_settings_are_not_taken(tiny: Path, tmp_path: Path) -> None:
    job = campaign.plan(campaign.read_file(tiny), [0])[0]
    job.file(tmp_path).parent.mkdir()
    job.file(tmp_path).write_text(json.dumps({"settings": {**job.settings, "lr": 1.0}, "steps": job.steps}))
    with pytest.raises(ConfigError, match="other settings"):
        campaign.read_run(job, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "gane"], "did you mean 'game'"),
        (["--methods", "danse"], "did you mean 'dense'"),
        (["--budget", "0"], "--budget"),
        (["--read"], "holds no result yet"),
    ],
)
def test_bad_words_are_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert campaign.main([str(tiny), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_setting_of_nobody_is_found_before_anything_runs(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY.replace("div_coef", "div_coeff"))
    assert campaign.main([str(tiny), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_the_file_that_ships_is_sound() -> None:
    content = campaign.read_file(campaign.FILE)
    assert len(campaign.plan(content, [0])) == len(content["tasks"]) * len(content["methods"])
    assert read_yaml_file(campaign.FILE) == content
