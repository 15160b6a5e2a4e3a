"""`rllib compare` of what went wrong: failed trials, changed names, damaged files, budgets that no run has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from outcomes import assert_error
from trials import line

from k24_rllib import ALGORITHMS
from k24_rllib.comparison.runs import read_trial

Call = Callable[..., subprocess.CompletedProcess[str]]
MakeTrial = Callable[..., Path]

FAILURE = "Failure # 1 (occurred at 2026-01-02_10-00-00)\nRuntimeError: no memory left\n"


def test_a_failed_trial_is_left_out_and_named(call: Call, make_trial: MakeTrial, tmp_path: Path) -> None:
    make_trial([line(steps, -50.0) for steps in (800, 1600, 2400)], "exp/QMix_0", seed=0)
    failed = make_trial([line(800, -90.0)], "exp/QMix_1", seed=1)
    early = make_trial([], "exp/QMix_2", seed=2)
    (failed / "error.txt").write_text(FAILURE)
    (early / "error.pkl").write_bytes(b"\x80")
    outcome = call("compare", tmp_path / "exp", "--json", tmp_path / "a.json")
    assert outcome.returncode == 0, outcome.stderr
    assert "at 2,400 environment steps" in outcome.stdout
    assert f"exp: left out, failed after its evaluation at 800 steps: {failed} (error.txt says why)" in outcome.stdout
    assert f"exp: left out, failed before its first evaluation: {early} (error.pkl says why)" in outcome.stdout
    (table,) = json.loads((tmp_path / "a.json").read_text())["tables"]
    assert [row["seeds"] for row in table["rows"]] == [[0]]


@pytest.mark.parametrize(
    "last", [line(200, -40.0, done=True), line(200, -40.0, date="2026-01-02_10-00-09")], ids=["finished", "runs on"]
)
def test_a_trial_that_went_on_after_an_error_did_not_fail(make_trial: MakeTrial, last: str) -> None:
    trial = make_trial([line(100, -60.0, date="2026-01-02_09-59-59"), last])
    (trial / "error.txt").write_text(FAILURE)
    assert read_trial(trial).failure is None
    again = FAILURE.replace("# 1", "# 2").replace("10-00-00", "10-05-00")
    (trial / "error.txt").write_text(FAILURE + again)
    assert (read_trial(trial).failure is None) == ("done" in last)


def test_a_trial_that_could_not_be_built_is_named(call: Call, make_trial: MakeTrial, tmp_path: Path) -> None:
    """Tune writes neither settings nor results of it."""
    unbuilt = tmp_path / "exp" / "QMix_1"
    unbuilt.mkdir(parents=True)
    (unbuilt / "error.txt").write_text(FAILURE)
    (unbuilt / "error.pkl").write_bytes(b"\x80")
    assert_error(call("compare", tmp_path / "exp"), "every trial failed", f"{unbuilt / 'error.txt'} says why")
    make_trial([line(800, -50.0)], "exp/QMix_0", seed=0)
    outcome = call("compare", tmp_path / "exp")
    assert outcome.returncode == 0, outcome.stderr
    assert f"  note: exp: left out, failed as it was built: {unbuilt} (error.txt says why)\n" in outcome.stdout


def test_methods_of_which_every_trial_failed(call: Call, make_trial: MakeTrial, tmp_path: Path) -> None:
    for place, more in (("bad/QMix_0", {}), ("six/QMix_0", {"env_config": {"N": 6}})):
        (make_trial([line(100, -60.0)], place, **more) / "error.txt").write_text(FAILURE)
    assert_error(call("compare", tmp_path), "every trial failed", "bad/QMix_0/error.txt says why")
    make_trial([line(100, -50.0)], "good/QMix_0")
    outcome = call("compare", tmp_path)
    assert "  note: bad: is not in the table, as every trial of it failed\n" in outcome.stdout
    assert "  note: mpe_simple_spread N=6: six: is not in the table, as every trial of it failed\n" in outcome.stdout


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_results_tell_the_algorithm_whatever_the_directorys_name(make_trial: MakeTrial, algorithm: str) -> None:
    config = dict.fromkeys(ALGORITHMS[algorithm]().known_keys())
    assert read_trial(make_trial([line(100, -60.0, config=config)], "exp/t0")).algorithm == algorithm
    assert read_trial(make_trial([line(100, -60.0, config=config)], "exp/QMix_0")).algorithm == algorithm


def test_a_directorys_name_counts_only_where_it_is_an_algorithms(
    call: Call, make_trial: MakeTrial, tmp_path: Path
) -> None:
    named = make_trial([line(100, -60.0)], "exp/K24QMix_0", seed=0)
    copied = make_trial([line(100, -50.0)], "exp/t0", seed=1)
    foreign = make_trial([line(100, -50.0, config={"my_own_key": 1})], "other/t1", seed=1)
    assert [read_trial(trial).algorithm for trial in (named, copied, foreign)] == ["K24QMix", None, None]
    outcome = call("compare", tmp_path / "exp", tmp_path / "other", "--json", tmp_path / "a.json")
    (table,) = json.loads((tmp_path / "a.json").read_text())["tables"]
    assert [(row["method"], row["seeds"]) for row in table["rows"]] == [("exp", [0, 1]), ("other", [1])]
    assert "unknown algorithm" not in outcome.stdout
    assert "other: parameters not counted: neither results nor directory tell the algorithm" in outcome.stdout


def test_damaged_files_are_named(call: Call, make_trial: MakeTrial) -> None:
    trial = make_trial([line(100, -60.0)])
    results, config = trial / "result.json", trial / "params.json"
    config.write_text('{"env": "mpe_simple_spread", "env_config": 3}')
    assert_error(call("compare", trial), f"{config}: env_config: got 3, expected keys and values")
    config.write_bytes(b"\xff\xfe\x00")
    assert_error(call("compare", trial), f"{config}: is not a text file")
    config.write_text("{}")
    results.write_bytes(b"\xff\xfe\x00")
    assert_error(call("compare", trial), f"{results}: is not a text file")
    results.unlink()
    results.mkdir()
    assert_error(call("compare", trial), f"{results}: can't be read (Is a directory)")


def test_both_ends_of_what_at_can_be_and_a_csv_file_of_excels(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    rows = "a,0,800,1,1\na,0,1600,2,2\na,1,800,1,1\na,1,1600,2,2\na,1,2400,2,3\n"
    file.write_text("method,seed,env_steps,greedy_return,wall_s\n" + rows, encoding="utf-8-sig")
    assert call("compare", file).returncode == 0
    assert_error(call("compare", file, "--at", "5"), "--at 5: no run was evaluated there", "expected 800 to 2400")
