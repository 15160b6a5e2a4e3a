"""`rllib report` and `rllib play`, and the report that a training leaves: real files, bad input."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from outcomes import assert_error
from PIL import Image

from k24_rllib.report import write_after_training
from tests.report.pages import charts_of, data_of, lay_run

Spec = dict[str, Any]
Call = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    return lay_run(tmp_path / "exp" / "K24QMix_0")


def test_a_report_lies_beside_the_results_or_where_it_is_asked_for(call: Call, trial: Path, tmp_path: Path) -> None:
    outcome = call("report", trial.parent)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout == f"wrote {trial.parent / 'report.html'}\n"
    assert (trial.parent / "report.html").read_text().startswith("<!doctype html>")
    call("report", trial.parent, "--out", tmp_path / "a.html")
    assert "Return" in charts_of((tmp_path / "a.html").read_text())


def test_it_can_be_opened(call: Call, trial: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    outcome = call("report", trial, "--out", tmp_path / "a.html", "--open")
    assert opened == [(tmp_path / "a.html").as_uri()]
    assert "no browser was found" in outcome.stdout


def test_what_is_no_run(call: Call, trial: Path, tmp_path: Path) -> None:
    assert_error(call("report"), "which run? expected rllib report RUN...")
    assert_error(call("report", tmp_path / "exq"), f"{tmp_path / 'exq'}: no such file", "did you mean 'exp'?")
    assert_error(
        call("report", trial / "checkpoint_000000"), "holds no trial", f"nearest directory with some is {trial}"
    )
    (tmp_path / "a.yaml").write_text("a: 1")
    assert_error(call("report", tmp_path / "a.yaml"), "is a YAML file, expected a run's directory")
    assert_error(call("report", trial, "--out", tmp_path / "no" / "a.html"), "--out", "no such directory")
    assert_error(call("report", trial, "--opn"), "did you mean '--open'?")


def test_episodes_are_played_and_filmed(call: Call, trial: Path, tmp_path: Path) -> None:
    gif = tmp_path / "team.gif"
    outcome = call("play", trial, "--episodes", "2", "--seed", "5", "--gif", gif)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    told = outcome.stdout.splitlines()
    assert told[0] == f"checkpoint     {trial / 'checkpoint_000000'}"
    assert [text.split()[:2] for text in told[1:3]] == [["episode", "1"], ["episode", "2"]]
    assert "over 2 episodes" in told[3]
    assert told[-1] == f"wrote {gif}"
    with Image.open(gif) as film:
        assert film.is_animated
    again = call("play", trial, "--episodes", "2", "--seed", "5").stdout.splitlines()
    assert again == told[:-1]


def test_what_cannot_be_played(call: Call, trial: Path, tmp_path: Path) -> None:
    assert_error(call("play"), "which checkpoint? expected rllib play CHECKPOINT")
    assert_error(call("play", tmp_path / "nothing"), "no such directory, expected a checkpoint")
    assert_error(call("play", trial, "--episodes", "21", "--gif", "a.gif"), "got 21, expected at most 20 with --gif")
    assert_error(call("play", trial, "--episodes", "0"), "--episodes: got '0'")
    assert_error(call("play", trial, "--gif", tmp_path / "no" / "a.gif"), "--gif", "no such directory")


def test_a_training_leaves_a_report(call: Call, write: Write, tiny: Spec, tmp_path: Path) -> None:
    """Of two experiments in a file, the second of which wants none."""
    tiny["config"] |= {"evaluation_interval": 2, "evaluation_duration": 4}
    file = write(yaml.safe_dump({"tiny": tiny, "quiet": tiny | {"report": False}}))
    outcome = call("train", "-f", file, "--storage-path", tmp_path / "one")
    assert outcome.returncode == 0, outcome.stderr
    assert [path.parent.name for path in (tmp_path / "one").glob("*/report.html")] == ["tiny"]
    assert outcome.stdout.count(f"report         {tmp_path / 'one' / 'tiny' / 'report.html'}\n") == 1
    html = (tmp_path / "one" / "tiny" / "report.html").read_text()
    assert charts_of(html)["Return"]["lines"][0]["x"][-1] == 400
    masks, episode = (next(part[key] for part in data_of(html) if part[key]) for key in ("masks", "episode"))
    assert len(masks) == 4
    assert len(episode["frames"]) == 26
    assert call("train", "-f", write(tiny), "--storage-path", tmp_path / "two", "--no-report").returncode == 0
    assert not list((tmp_path / "two").glob("*/report.html"))


def test_a_report_that_fails_is_a_line_of_warning(
    trial: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_after_training(trial.parent) == trial.parent / "report.html"
    (trial.parent / "report.html").unlink()
    (trial.parent / "report.html").mkdir()
    (trial.parent / "report.html" / "in-the-way").touch()
    assert write_after_training(trial.parent) is None
    warning = capsys.readouterr().err
    assert warning.startswith("rllib: warning: no report: ConfigError: ")
    assert warning.count("\n") == 1


def test_report_is_true_or_false(call: Call, write: Write, tiny: Spec) -> None:
    assert_error(
        call("train", "-f", write(tiny | {"report": "no"}), "--check"), "report: got 'no', expected true or false"
    )
