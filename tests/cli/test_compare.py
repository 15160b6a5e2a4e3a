"""`rllib compare`: a tiny real training that is interrupted and gone on with, what it leaves read back, bad input."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from outcomes import assert_error

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.training import parse_seeds

Call = Callable[..., subprocess.CompletedProcess[str]]
Spec = dict[str, Any]
Write = Callable[..., Path]

RLLIB = [sys.executable, "-m", "k24_rllib.cli.main"]
PATIENCE_S = 300
TOTAL_STEPS = 2000


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_once: Spec, interrupt: Callable[..., str]
) -> tuple[Path, str, str]:
    """Two seeds of a tiny experiment, stopped by Ctrl-C during the second one and gone on with.

    Returns the directory of `tiny.yaml` and of the results in `out`, and what both commands printed.
    """
    place = tmp_path_factory.mktemp("compare")
    config = tiny_once["config"] | {"evaluation_interval": 5, "evaluation_duration": 4}
    (place / "tiny.yaml").write_text(yaml.safe_dump({"tiny": tiny_once | {"config": config}}))
    words = ["compare", str(place / "tiny.yaml"), "--seeds", "2", "--out", str(place / "out")]
    words += ["--stop", f"timesteps_total={TOTAL_STEPS}"]
    stopped = interrupt(words, "tiny seed 1")
    again = re.search(r"^go on with +(.*)$", stopped, re.MULTILINE)
    assert again, stopped
    program, *repeated = shlex.split(again[1])
    assert (program, repeated) == ("rllib", words)
    done = subprocess.run([*RLLIB, *repeated], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return place, stopped, done.stdout


def last_evaluations(out: Path) -> dict[int, float]:
    """Returns the greedy return of each seed's last evaluation, read from Tune's files by themselves."""
    returns = {}
    for file in out.glob("tiny/seed-*/*/result.json"):
        results = [json.loads(text) for text in file.read_text().splitlines()]
        evaluated = [result for result in results if "evaluation" in result]
        assert evaluated[-1]["num_env_steps_sampled_lifetime"] == TOTAL_STEPS
        seed = json.loads((file.parent / "params.json").read_text())["seed"]
        returns[seed] = evaluated[-1]["evaluation"]["env_runners"]["episode_return_mean"]
    return returns


def tables_of(file: Path) -> list[dict[str, Any]]:
    """Returns the tables in a file that `--json` wrote, without remarks on where figures come from."""
    tables: list[dict[str, Any]] = json.loads(file.read_text())["tables"]
    return [{key: value for key, value in table.items() if key != "notes"} for table in tables]


def test_what_is_finished_stays_and_what_was_interrupted_goes_on(trained: tuple[Path, str, str]) -> None:
    place, stopped, resumed = trained
    assert "tiny seed 0 (1 of 2)" in stopped
    assert "tiny seed 0: finished before" in resumed
    assert "tiny seed 1 (1 of 1" in resumed
    before, after = (
        [int(steps.replace(",", "")) for steps in re.findall(r"^steps ([\d,]+)", text, re.MULTILINE)]
        for text in (stopped.partition("tiny seed 1")[2], resumed)
    )
    assert before[-1] < after[0] <= TOTAL_STEPS
    assert len(list((place / "out" / "tiny").glob("seed-*/*/result.json"))) == 2
    assert "IQM return [95%]" in resumed


def test_the_table_holds_the_last_evaluations(call: Call, trained: tuple[Path, str, str], tmp_path: Path) -> None:
    place, _, resumed = trained
    outcome = call("compare", place / "out", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert outcome.returncode == 0, outcome.stderr
    table_printed = resumed[resumed.index("mpe_simple_spread N=2") :]
    assert table_printed in outcome.stdout
    ((row,),) = (table["rows"] for table in tables_of(tmp_path / "a.json"))
    expected = last_evaluations(place / "out")
    assert dict(zip(row["seeds"], row["returns"], strict=True)) == expected
    assert row["greedy_return"]["value"] == pytest.approx(sum(expected.values()) / 2)
    size = row["parameters"]
    assert size["parameters_agent"] < size["bytes_team"] / 4 < size["parameters_trained"]
    assert row["updates_per_s"] > 0
    versions = json.loads((tmp_path / "a.json").read_text())["versions"]
    assert set(versions) == {"python", "torch", "ray", "numpy", "scipy", "k24_rllib"}


def test_a_csv_file_gives_the_same_table_and_a_figure(
    call: Call, trained: tuple[Path, str, str], tmp_path: Path
) -> None:
    out = trained[0] / "out"
    paths = [f"tiny={out / 'tiny' / 'seed-0'}", f"other one={out / 'tiny' / 'seed-1'}"]
    written = call("compare", *paths, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    assert written.returncode == 0, written.stderr
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["env_steps"]) for row in rows if row["method"] == "tiny"] == list(range(500, TOTAL_STEPS + 1, 500))
    read = call("compare", tmp_path / "a.csv", "--json", tmp_path / "b.json", "--figure", tmp_path / "b.png")
    assert read.returncode == 0, read.stderr
    assert tables_of(tmp_path / "a.json") == tables_of(tmp_path / "b.json")
    call("compare", tmp_path / "a.csv", "--csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_another_configuration_is_not_mixed_in(call: Call, trained: tuple[Path, str, str]) -> None:
    place = trained[0]
    words = ["compare", place / "tiny.yaml", "--seeds", "2", "--out", place / "out"]
    assert_error(call(*words), "was run with another configuration (total_env_steps: 2000 there, 400 now)", "--out")
    stop = ["--stop", f"timesteps_total={TOTAL_STEPS}"]
    assert_error(call(*words, *stop, "--set", "lr=0.1"), "lr: 'not given' there, 0.1 now")
    further = ["--set", f"total_env_steps={TOTAL_STEPS}", "--stop", "timesteps_total=9000"]
    assert_error(call(*words, *further), "ended before the stop that is asked for now")


def test_finished_runs_tell_of_a_misspelt_metric_before_others_run(call: Call, trained: tuple[Path, str, str]) -> None:
    place = trained[0]
    words = ["compare", place / "tiny.yaml", "--seeds", "2", "--out", place / "out"]
    outcome = call(*words, "--stop", f"timesteps_total={TOTAL_STEPS}", "--metric", "div_los")
    assert outcome.returncode == 2
    warning, error = outcome.stderr.splitlines()
    assert warning.startswith("rllib: warning: after a run of each experiment: --metric div_los: none of the runs")
    assert error.startswith("rllib: error: --metric div_los: none of the runs")
    assert "did you mean 'div_loss'?" in warning


def test_the_nearest_directory_with_trials_is_named(call: Call, trained: tuple[Path, str, str]) -> None:
    checkpoint = next((trained[0] / "out").glob("tiny/seed-0/*/checkpoint_*"))
    assert_error(
        call("compare", checkpoint), "holds no trial", f"the nearest directory with some is {checkpoint.parent}"
    )


@pytest.mark.parametrize(("text", "seeds"), [("3", [0, 1, 2]), ("3,7,9", [3, 7, 9]), ("4,", [4]), ("0,1", [0, 1])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1,,2", ",", "3,x", "3,3", ""])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds: got"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seeds", "0"], ["--seeds: got '0'", "whole number of at least 1"]),
        (["--seeds", "1,x"], ["--seeds: got '1,x'", "whole numbers"]),
        (["--out", __file__], ["--out", "is a file"]),
        (["--out", "s3://bucket"], ["--out s3://bucket", "on this machine"]),
        (["--set", "evaluation_interval=0"], ["tiny: evaluation_interval is missing", "--set evaluation_interval=10"]),
        (["--set", "lr=fast"], ["lr: got 'fast'"]),
        (["--stop", "steps=1"], ["unknown --stop key 'steps'"]),
        (["--concurrent", "0"], ["--concurrent: got '0'"]),
        (["--at", "soon"], ["--at: got 'soon'"]),
        (["--window", "0"], ["--window: got '0'"]),
        (["--csv", "nowhere/a.csv"], ["--csv nowhere/a.csv", "no such directory"]),
        (["--figure", "."], ["--figure .: is a directory"]),
        (["--figur", "a.png"], ["did you mean '--figure'?"]),
        (["tiny=experiment.txt"], ["error: experiment.txt: no such file or directory"]),
        (["no/such/trial_seed=1"], ["error: no/such/trial_seed=1: no such file or directory"]),
    ],
)
def test_bad_options(call: Call, write: Write, tiny: Spec, words: list[str], parts: list[str]) -> None:
    tiny["config"]["evaluation_interval"] = 2
    assert_error(call("compare", write(tiny), *words), *parts)


def test_bad_files(call: Call, write: Write, tiny: Spec, tmp_path: Path) -> None:
    assert_error(call("compare"), "what to compare?")
    assert_error(call("compare", tmp_path), "holds no trial")
    path = write("a: [1\nb: 2\n")
    assert_error(call("compare", path), str(path), "line 2")
    assert_error(call("compare", tmp_path / "experimnt.yaml"), "no such file", "did you mean 'experiment.yaml'?")
    assert_error(call("compare", __file__), "expected a run's directory, a YAML file or a CSV file")
    tiny["config"]["evaluation_interval"] = 2
    twice = [write(tiny), write(tiny, "second.yaml")]
    assert_error(call("compare", *twice), "tiny: is the name of two experiments")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["column 'method' is missing", "method, seed, env_steps, greedy_return, wall_s"]),
        ("method,seed,steps,greedy_return,wall_s\n", ["column 'env_steps' is missing; did you mean 'steps'?"]),
        ("method,seed,env_steps,greedy_return,wall_s\n", ["has no row"]),
        ("method,seed,env_steps,greedy_return,wall_s\na,0.5,10,1,1\n", ["line 2: seed: got '0.5'", "whole number"]),
        ("method,seed,env_steps,greedy_return,wall_s\na,0,10,nan,1\n", ["line 2: greedy_return: got 'nan'"]),
        ("method,seed,env_steps,greedy_return,wall_s\na,0,10,1,1\na,0,-5,1,1\n", ["line 3: env_steps: got '-5'"]),
        ("method,seed,env_steps,greedy_return,wall_s\n,0,10,1,1\n", ["line 2: method is empty"]),
        (
            "method,seed,env_steps,greedy_return,wall_s\na,0,10,1,1\na,0,10,2,1\n",
            ["a seed 0 has two rows at 10"],
        ),
    ],
)
def test_bad_csv(call: Call, tmp_path: Path, content: str, parts: list[str]) -> None:
    file = tmp_path / "points.csv"
    file.write_text(content)
    assert_error(call("compare", file), str(file), *parts)


def test_options_for_running_need_a_yaml_file(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text("method,seed,env_steps,greedy_return,wall_s\na,0,10,1,1\na,1,10,2,1\n")
    assert_error(call("compare", file, "--seeds", "3"), "--seeds: is for YAML files")
    assert_error(call("compare", file, "--stop", "timesteps_total=3"), "--stop: is for YAML files")


def test_the_same_file_twice_is_read_once_and_two_of_a_name_stay_apart(call: Call, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.csv", "two.csv", "sub/two.csv")]
    (tmp_path / "sub").mkdir()
    for file in files:
        file.write_text("method,seed,env_steps,greedy_return,wall_s\na,0,10,1,1\na,1,10,2,1\n")
    twice = call("compare", files[0], files[0])
    assert re.search(r"^ +a +2 +1\.5 \[1\.0, 2\.0\]$", twice.stdout, re.MULTILINE)
    assert "times" not in twice.stdout
    apart = call("compare", *files[:2]).stdout
    assert "a (one.csv)" in apart
    assert "a (two.csv)" in apart
    assert_error(call("compare", *files), "two methods are called 'a (two.csv)'", "expected NAME=PATH")


def test_a_trial_without_evaluations_is_named(call: Call, tmp_path: Path) -> None:
    trial = tmp_path / "exp" / "QMix_0"
    trial.mkdir(parents=True)
    result = {"num_env_steps_sampled_lifetime": 100, "training_iteration": 2, "time_total_s": 1.0}
    (trial / "result.json").write_text(json.dumps(result) + "\n")
    assert_error(call("compare", trial), "params.json: can't be read")
    (trial / "params.json").write_text(json.dumps({"env": "mpe_simple_spread"}))
    assert_error(
        call("compare", trial.parent), str(trial), "no greedy evaluation in 2 iterations", "evaluation_interval"
    )
    (trial / "params.json").write_text(json.dumps({"env": "mpe_simple_spread", "evaluation_interval": 10}))
    assert_error(call("compare", trial.parent), str(trial), "has no greedy evaluation yet")
    (trial / "result.json").write_text(json.dumps(result | {"done": True}) + "\n")
    assert_error(call("compare", trial.parent), "ended before its first greedy evaluation", "below 10")
    (trial / "result.json").write_text("not JSON\n" + json.dumps(result) + "\n")
    assert_error(call("compare", trial.parent), "line 1: is not a result")
