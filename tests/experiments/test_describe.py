"""What `rllib config` tells comes from the declarations, and its file is one that runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from k24_rllib import ALGORITHMS
from k24_rllib.experiments import read_experiments, settings_lines, starter_file

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("run", ["QMix", "K24QMix", "KaleidoscopeQMix"])
def test_every_setting_is_listed_once_with_its_default(run: str) -> None:
    lines = settings_lines(run)
    keys = [line.strip().partition(":")[0] for line in lines if re.match(r"  \w", line)]
    assert keys == sorted(keys, key=keys.index)
    assert set(keys) == set(ALGORITHMS[run].settings())
    assert len(keys) == len(set(keys))
    assert "  gamma: 0.9  (a number from 0 to 1)" in lines


def test_without_an_algorithm_all_are_listed() -> None:
    lines = settings_lines()
    groups = [line for line in lines if line and not line.startswith(" ")]
    of_the_package = ["QMixSettings", "MaskedSettings", "K24Settings", "KaleidoscopeSettings"]
    assert [group for group in groups if group in of_the_package] == of_the_package  # others' tests may have added some


@pytest.mark.parametrize("run", ["QMix", "K24QMix", "KaleidoscopeQMix"])
def test_the_starter_file_runs_as_it_is_and_with_every_setting_uncommented(run: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(starter_file(run))
    (experiment,) = read_experiments(path)
    assert experiment.run == run
    path.write_text(re.sub(r"^    # (\w+: )", r"    \1", starter_file(run), flags=re.MULTILINE))
    (whole,) = read_experiments(path)
    settings = ALGORITHMS[run].settings()
    assert set(settings) <= set(whole.config)
    without = {key for key in settings if key != "total_env_steps"}  # the command line takes it from `stop`
    assert {key: whole.config[key] for key in without} == {key: settings[key].default for key in without}


def test_the_command_prints_them(call: Call) -> None:
    done = call("config", "qmix")
    assert done.returncode == 0
    assert "  mixer: qmix  (a registered mixer)" in done.stdout
    assert call("config", "K24QMix", "--yaml").stdout == starter_file("K24QMix")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["K24QMx"], "unknown algorithm 'K24QMx'; did you mean 'K24QMix'?"),
        (["--yml"], "unexpected argument '--yml'; did you mean '--yaml'?"),
    ],
)
def test_bad_input_is_one_line(call: Call, words: list[str], message: str) -> None:
    done = call("config", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
