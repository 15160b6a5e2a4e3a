"""The real command, on a search with every size shrunk: stopped in mid-run, it goes on where it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Spec = dict[str, Any]
Call = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE_S = 300
SIGNALS = (signal.SIGINT, signal.SIGKILL)


def trials(directory: Path) -> dict[str, str]:
    """Returns each trial's results, by the trial's directory."""
    return {path.parent.name: path.read_text() for path in directory.glob("trial_*/result.json")}


@dataclass(frozen=True)
class Story:
    """What became of a search that was stopped by a signal and resumed.

    Attributes:
        begun: Trials that had begun when it was stopped.
        before, after: Each trial's results then, and once the resumed command had ended.
        resumed: What that command printed.
    """

    begun: set[str]
    before: dict[str, str]
    after: dict[str, str]
    resumed: str


def stop_and_resume(number: signal.Signals, command: list[str], results: Path) -> Story:
    """Stops the command while its second trial is under way and goes on with it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        begun: set[str] = set()
        for line in process.stdout:
            begun |= set(re.findall(r"(trial_\d_\w+)$", line))
            if line.startswith("[#2] steps"):  # the first has ended, the second is under way
                os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
                break
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) in (130, -signal.SIGKILL), rest
    before = trials(results)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return Story(begun, before, trials(results), done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_once: Spec) -> Path:
    """A directory with the search's file."""
    spec = tiny_once | {"stop": {"timesteps_total": 800}}
    spec["tune"] = {"search_alg": {"optuna": {"seed": 0}}, "num_samples": 3, "max_concurrent_trials": 1}
    searched = {"evaluation_interval": 1, "evaluation_duration": 4, "lr": {"loguniform": [1e-4, 1e-2]}}
    spec["config"] = tiny_once["config"] | searched
    place = tmp_path_factory.mktemp("search")
    (place / "tiny.yaml").write_text(yaml.safe_dump({"tiny": spec}, sort_keys=False))
    return place


@pytest.fixture(scope="module")
def stories(folder: Path) -> dict[signal.Signals, Story]:
    """A story for each signal, side by side, since most of each is waiting for Ray."""

    def of(number: signal.Signals) -> Story:
        results = folder / number.name
        words = ["train", "-f", str(folder / "tiny.yaml"), "--storage-path", str(results)]
        return stop_and_resume(number, [sys.executable, "-m", "k24_rllib.cli.main", *words], results / "tiny")

    with ThreadPoolExecutor(len(SIGNALS)) as threads:
        return dict(zip(SIGNALS, threads.map(of, SIGNALS), strict=True))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_search_goes_on(stories: dict[signal.Signals, Story], number: signal.Signals) -> None:
    story = stories[number]
    assert set(story.before) <= story.begun
    assert len(story.begun) == 2
    assert len(story.after) == 3
    assert story.begun < set(story.after)  # the same trials, and the one that was missing
    (first,) = (name for name in story.before if name.startswith("trial_1_"))
    assert story.after[first] == story.before[first]  # not run again
    assert "[#1] steps" not in story.resumed
    assert re.search(r"search by optuna, fifo, 3 trials", story.resumed)
    assert "stopped by     budget 3" in story.resumed


@pytest.mark.usefixtures("stories")
@pytest.mark.parametrize("number", SIGNALS)
def test_another_search_does_not_go_on(folder: Path, call: Call, tmp_path: Path, number: signal.Signals) -> None:
    changed = tmp_path / "tiny.yaml"
    changed.write_text((folder / "tiny.yaml").read_text().replace("num_samples: 3", "num_samples: 4"))
    refused = call("train", "-f", changed, "--storage-path", folder / number.name, "--resume")
    assert refused.returncode == 2
    assert "tune: num_samples: got 4, expected 3: --resume goes on" in refused.stderr
