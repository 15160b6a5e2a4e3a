"""`rllib compare --metric`: the learner's metrics in the tables, the figure and the files."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from outcomes import assert_error
from trials import line

from k24_rllib.comparison import sources
from k24_rllib.comparison.training import Job

Call = Callable[..., subprocess.CompletedProcess[str]]
MakeTrial = Callable[..., Path]
Write = Callable[..., Path]

NAN = float("nan")
STEPS = (100, 200, 300, 400)
MASKS = {0: (0.1, 0.2, 0.3, 0.4), 1: (0.3, 0.4, 0.5, 0.8)}
"""`agreement` of the seeds of the method that has masks, an iteration each. It is evaluated at every other one."""


@pytest.fixture
def runs(make_trial: MakeTrial, tmp_path: Path) -> list[str]:
    """Two methods, of two seeds and of one: `masked` with the metrics agreement and loss, `dense` with loss alone."""
    for seed, agreement in MASKS.items():
        lines = [
            line(steps, -50.0 - seed if steps % 200 == 0 else None, {"agreement": value, "loss": 1e-5 * steps})
            for steps, value in zip(STEPS, agreement, strict=True)
        ]
        make_trial(lines, f"masked/K_{seed}", seed=seed)
    make_trial([line(steps, -40.0, {"loss": float(steps)}) for steps in STEPS], "dense/QMix_0")
    return [f"dense={tmp_path / 'dense'}", f"masked={tmp_path / 'masked'}"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that the command draws, instead of their files."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def panels(figure: Figure) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Returns what each panel shows, from the top left: by its label's first line, the points of the methods' lines."""
    shown = {}
    for axis in figure.axes:
        lines = {str(curve.get_label()): curve.get_xydata().tolist() for curve in axis.lines}
        shown[axis.get_ylabel().splitlines()[0]] = {
            name: [(x, pytest.approx(y)) for x, y in points] for name, points in lines.items()
        }
    return shown


def metrics_of(outcome: subprocess.CompletedProcess[str], file: Path) -> dict[str, dict[str, Any]]:
    """Returns the metrics of each method of the only table."""
    assert outcome.returncode == 0, outcome.stderr
    (table,) = json.loads(file.read_text())["tables"]
    return {row["method"]: row["metrics"] for row in table["rows"]}


@pytest.mark.parametrize(
    ("where", "steps", "values"),
    [
        ([], 400, [0.4, 0.8]),
        (["--at", "290"], 300, [0.3, 0.5]),
        (["--window", "200"], 400, [0.35, 0.65]),
        (["--at", "300", "--window", "300"], 300, [0.2, 0.4]),
    ],
    ids=str,
)
def test_a_metric_is_compared_where_the_return_is(
    call: Call, runs: list[str], tmp_path: Path, where: list[str], steps: int, values: list[float]
) -> None:
    outcome = call("compare", *runs, "--metric", "agreement", "--json", tmp_path / "a.json", *where)
    found = metrics_of(outcome, tmp_path / "a.json")
    assert found["dense"] == {"agreement": None}
    figure = found["masked"]["agreement"]
    assert (figure["seeds"], figure["env_steps"], figure["values"]) == ([0, 1], [steps] * 2, pytest.approx(values))
    mean, interval = figure["interquartile_mean"]["value"], figure["interquartile_mean"]
    assert mean == pytest.approx(sum(values) / 2)
    assert (interval["low"], interval["high"]) == pytest.approx(values)
    cells = re.escape(f"{mean:.4g} [{values[0]:.4g}, {values[1]:.4g}]")
    assert re.search(rf"^  method +agreement \[95%\]\n  dense +-\n  masked +{cells}$", outcome.stdout, re.MULTILINE)


def test_metrics_are_printed_in_the_order_asked_for_whatever_their_scale(call: Call, runs: list[str]) -> None:
    printed = call("compare", *runs, "--metric", "agreement", "--metric", "loss", "--metric", "agreement").stdout
    assert re.search(r"^  method +agreement \[95%\] +loss \[95%\]$", printed, re.MULTILINE)
    assert re.search(r"^  dense +- +400$", printed, re.MULTILINE)
    assert re.search(r"^  masked +0.6 \[0.4, 0.8\] +0.004 \[0.004, 0.004\]$", printed, re.MULTILINE)
    assert "agreement" not in call("compare", *runs).stdout


def test_a_panel_for_each_metric_below_the_returns(call: Call, runs: list[str], drawn: list[Figure]) -> None:
    asked = ["--metric", "agreement", "--metric", "loss", "--figure", "a.png"]
    assert call("compare", *runs, *asked).returncode == 0
    shown = panels(drawn[0])
    assert list(shown) == ["greedy team return of an episode (IQM, 95% interval)", "agreement", "loss"]
    returns, agreement, loss = shown.values()
    assert returns["masked (2 seeds)"] == [(200, -50.5), (300, -50.5), (400, -50.5)]
    assert list(returns) == list(loss) == ["dense (1 seed)", "masked (2 seeds)"]
    assert agreement == {"masked (2 seeds)": [(100, 0.2), (200, 0.3), (300, 0.4), (400, 0.6)]}
    top, *below = drawn[0].axes
    (score,) = top.child_axes
    assert score.get_ylabel().startswith("score")
    assert not any(axis.child_axes for axis in below)
    assert [text.get_text() for text in top.get_legend().get_texts()] == list(returns)
    colours = [{curve.get_label(): curve.get_color() for curve in axis.lines} for axis in drawn[0].axes]
    assert colours[0] == colours[2] == colours[0] | colours[1]
    low, high = (below[0].collections[0].get_datalim(below[0].transData).get_points()[:, 1]).tolist()
    assert (low, high) == pytest.approx((0.1, 0.8))


def test_a_figure_of_metrics_alone(call: Call, runs: list[str], drawn: list[Figure]) -> None:
    assert call("compare", *runs, "--metric", "agreement", "--figure", "a.png", "--no-return").returncode == 0
    (axis,) = drawn[0].axes
    assert axis.get_ylabel().startswith("agreement")
    assert not axis.child_axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["masked (2 seeds)"]


def test_environments_are_columns_and_one_without_a_metric_says_so(
    call: Call, runs: list[str], drawn: list[Figure], make_trial: MakeTrial, tmp_path: Path
) -> None:
    make_trial([line(400, -300.0, {"loss": 7.0})], "six/QMix_0", env_config={"N": 6})
    asked = ["--metric", "agreement", "--metric", "loss", "--figure", tmp_path / "a.png"]
    outcome = call("compare", *runs, tmp_path / "six", *asked)
    assert outcome.returncode == 0, outcome.stderr
    grid = drawn[0].axes
    assert grid[0].get_gridspec().get_geometry() == (3, 2)
    assert [axis.get_title() for axis in grid] == ["mpe_simple_spread N=3", "mpe_simple_spread N=6", "", "", "", ""]
    assert [len(axis.lines) for axis in grid] == [2, 1, 1, 0, 2, 1]
    assert [text.get_text() for text in grid[3].texts] == ["no values"]
    assert not any(axis.texts for axis in grid if axis is not grid[3])
    last = outcome.stdout.partition("N=6")[2]
    assert re.search(r"^  method +loss \[95%\]\n  six +7$", last, re.MULTILINE)


def test_a_csv_file_keeps_the_metrics(call: Call, runs: list[str], drawn: list[Figure], tmp_path: Path) -> None:
    asked = ["--metric", "agreement", "--metric", "loss"]
    first, second = ([*asked, "--csv", tmp_path / f"{n}.csv", "--json", tmp_path / f"{n}.json"] for n in "ab")
    written = call("compare", *runs, *first, "--figure", "a.png")
    with (tmp_path / "a.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "masked" and row["seed"] == "1"]
    kept = [[row[name] for name in ("env_steps", "greedy_return", "wall_s", "agreement")] for row in rows]
    assert kept == [["100", "", "", "0.3"], ["200", "-51.0", "2.0", "0.4"], ["300", "", "", "0.5"],
                    ["400", "-51.0", "4.0", "0.8"]]  # fmt: skip
    read = call("compare", tmp_path / "a.csv", *second, "--figure", "b.png")
    assert metrics_of(written, tmp_path / "a.json") == metrics_of(read, tmp_path / "b.json")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert panels(drawn[0]) == panels(drawn[1])


def test_a_csv_file_with_metrics_is_like_one_without_where_none_is_asked_for(
    call: Call, runs: list[str], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("plain.csv", "metrics.csv", "again.csv")]
    call("compare", *runs, "--csv", files[0])
    call("compare", *runs, "--csv", files[1], "--metric", "agreement")
    plain, metrics = (call("compare", file) for file in files[:2])
    assert plain.returncode == 0
    assert plain.stdout == metrics.stdout
    call("compare", files[1], "--csv", files[2])
    assert files[0].read_text() == files[2].read_text()
    assert_error(
        call("compare", files[0], "--metric", "agreement"), str(files[0]), "has no column 'agreement'", "--metric"
    )
    assert_error(call("compare", files[1], "--metric", "agrement"), "did you mean 'agreement'?")


@pytest.mark.parametrize(
    ("cells", "parts"),
    [
        (["100,-1,1,high"], ["line 2: agreement: got 'high'", "expected a number"]),
        (["100,-1,1,0.5", "100,,,0.6"], ["a seed 0 has two rows at 100 steps"]),
        (["100,,,0.5"], ["has no greedy evaluation yet"]),
        (["100,-1,1,"], ["--metric agreement", "no run has a value of it yet"]),
        (["100,-1,,0.5"], ["line 2: wall_s: got ''"]),
    ],
)
def test_bad_cells(call: Call, tmp_path: Path, cells: Sequence[str], parts: list[str]) -> None:
    file = tmp_path / "points.csv"
    rows = "".join(f"a,0,{row}\n" for row in cells)
    file.write_text("method,seed,env_steps,greedy_return,wall_s,agreement\n" + rows)
    assert_error(call("compare", file, "--metric", "agreement"), *parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--metric", "agrement"], ["--metric agrement: none of the runs reports it", "did you mean 'agreement'?"]),
        (["--metric", "wall_s"], ["--metric wall_s: is no metric", "docs/metrics.md"]),
        (["--no-return"], ["--no-return: is for a --figure with --metric"]),
        (["--no-return", "--metric", "loss"], ["--no-return: is for a --figure with --metric"]),
        (["--no-return", "--figure", "a.png"], ["--no-return: is for a --figure with --metric"]),
    ],
)
def test_bad_options(call: Call, runs: list[str], words: list[str], parts: list[str]) -> None:
    assert_error(call("compare", *runs, *words), *parts)


def test_a_metric_that_no_run_has_yet(call: Call, make_trial: MakeTrial) -> None:
    young = make_trial([line(100, -60.0)], "young/QMix_0")
    assert_error(call("compare", young, "--metric", "loss"), "--metric loss", "they have reported no metric yet")
    empty = make_trial([line(100, -60.0, {"kl_div": NAN}), line(200, -60.0, {"kl_div": NAN})], "empty/QMix_0")
    assert_error(call("compare", empty, "--metric", "kl_div"), "--metric kl_div: no run has a value of it yet")


def test_iterations_at_which_a_metric_is_nan_are_left_out(
    call: Call, make_trial: MakeTrial, drawn: list[Figure], tmp_path: Path
) -> None:
    values = [1.0, NAN, 5.0, NAN]
    lines = [line(steps, -50.0, {"kl_div": value}) for steps, value in zip(STEPS, values, strict=True)]
    trial = make_trial(lines, "exp/QMix_0")
    asked = ["--metric", "kl_div", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv", "--figure", "a.png"]
    found = metrics_of(call("compare", trial, *asked), tmp_path / "a.json")["exp"]["kl_div"]
    assert (found["env_steps"], found["values"]) == ([300], [5.0])
    assert panels(drawn[0])["kl_div"] == {"exp (1 seed)": [(100, 1.0), (300, 5.0)]}
    with (tmp_path / "a.csv").open() as file:
        assert [row["kl_div"] for row in csv.DictReader(file)] == ["1.0", "", "5.0", ""]
    averaged = call("compare", trial, *asked, "--window", "400")
    assert metrics_of(averaged, tmp_path / "a.json")["exp"]["kl_div"]["values"] == [3.0]


def test_a_metric_that_ended_long_before_is_no_value_of_the_budget(
    call: Call, make_trial: MakeTrial, tmp_path: Path
) -> None:
    for seed, until in enumerate([400, 100]):
        lines = [line(steps, -50.0, {"div_loss": 2.0} if steps <= until else {}) for steps in STEPS]
        make_trial(lines, f"exp/K_{seed}", seed=seed)
    outcome = call("compare", tmp_path / "exp", "--metric", "div_loss", "--json", tmp_path / "a.json")
    found = metrics_of(outcome, tmp_path / "a.json")["exp"]["div_loss"]
    assert (found["seeds"], found["values"]) == ([0], [2.0])
    assert "note: exp: left out of div_loss, no value at 400 steps: seed 1" in outcome.stdout


def test_a_metric_that_nobody_reports_is_found_after_a_run_of_each_file(
    call: Call,
    write: Write,
    tiny: dict[str, Any],
    make_trial: MakeTrial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stands in for the training: each job's trial appears when its turn comes."""
    tiny["config"]["evaluation_interval"] = 1
    files = [write(tiny), write(tiny, "other.yaml")]
    files[1].write_text(files[1].read_text().replace("tiny:", "other:"))
    said: list[tuple[str, str]] = []

    def train(
        jobs: list[Job], options: object, again: object, finished: Callable[[Job], None]
    ) -> tuple[int, list[str]]:
        for job in jobs:
            metrics = {"loss": 1.0} | ({"agreement": 0.5} if job.name.startswith("other") else {})
            place = job.directory.relative_to(tmp_path) / "K24QMix_0"
            make_trial([line(400, -50.0, metrics, done=True)], str(place), seed=job.experiment.config["seed"])
            finished(job)
            said.append((job.name, capsys.readouterr().err))
        return 0, []

    monkeypatch.setattr(sources, "run_jobs", train)
    words = [*files, "--seeds", "2", "--out", tmp_path / "out"]
    outcome = call("compare", *words, "--metric", "agrement", "--metric", "loss")
    assert [name for name, _ in said] == ["tiny seed 0", "other seed 0", "tiny seed 1", "other seed 1"]
    assert [bool(err) for _, err in said] == [False, True, False, False]
    assert "rllib: warning: after a run of each experiment: --metric agrement: none of the runs" in said[1][1]
    assert "did you mean 'agreement'?" in said[1][1]
    assert outcome.returncode == 2
    said.clear()
    assert call("compare", *words[:-1], tmp_path / "again", "--metric", "agreement").returncode == 0
    assert not any(err for _, err in said)
