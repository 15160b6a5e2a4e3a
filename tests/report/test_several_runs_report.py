"""Reports of several runs, of a comparison's CSV file and of a search."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from k24_rllib.comparison import compare, make_tables
from k24_rllib.comparison.curves import learning_curves
from k24_rllib.comparison.table import table_cells
from k24_rllib.experiments.objective import OBJECTIVE, OBJECTIVE_STEPS
from k24_rllib.experiments.search import SECTION_FILE
from k24_rllib.report import render, report_on
from tests.report.pages import Tags, charts_of
from tests.trials import line

Make = Callable[..., Path]


@pytest.fixture
def two_methods(make_trial: Make, tmp_path: Path) -> list[str]:
    """Four seeds of each of two methods."""
    for method, gain in (("slow", 0.0), ("fast", 5.0)):
        for seed in range(4):
            points = [
                line(s, -60 + s / 50 + gain + seed, {"loss": 1 / s + seed}, done=s == 500) for s in (100, 300, 500)
            ]
            make_trial(points, f"{method}/QMix_{seed}", seed=seed, lr=0.1 if gain else 0.2)
    return [f"slow={tmp_path / 'slow'}", str(tmp_path / "fast")]


def test_the_tables_are_the_comparisons_own(two_methods: list[str]) -> None:
    (comparison,) = compare(two_methods)
    (table,) = make_tables([comparison])
    section = report_on(two_methods).sections[0]
    assert section.title == table.title
    assert [part.rows for part in section.tables] == table_cells(table)
    assert "P(better) [95%]" in section.tables[0].rows[0]


def test_the_curves_are_the_comparisons_own(two_methods: list[str]) -> None:
    (comparison,) = compare(two_methods)
    charts = charts_of(render(report_on(two_methods)))
    for title, metric in (("Greedy return", None), ("Loss", "loss")):
        for line_, curve in zip(charts[title]["lines"], learning_curves(comparison.methods, metric), strict=True):
            assert line_["name"] == f"{curve.method.name} (4 seeds)"
            assert curve.low is not None
            assert line_["x"] == curve.env_steps.tolist()
            assert line_["y"] == pytest.approx(curve.value.tolist(), rel=1e-5)
            assert line_["low"] == pytest.approx(curve.low.tolist(), rel=1e-5)
    assert [each["style"] for each in charts["Loss"]["lines"]] == [0, 1]


def test_what_is_missing_of_any_run_is_said(two_methods: list[str], make_trial: Make) -> None:
    young = make_trial([], "young/QMix_0")
    half = make_trial([line(100, -50.0), "{ half", line(300, -50.0)], "half/QMix_0")
    page = report_on([*two_methods, str(young), str(half)])
    runs = page.sections[-1]
    assert f"{young.name}: has no results yet" in runs.notes
    assert any("line 2: is not a result" in note for note in runs.notes)
    assert any(note.startswith("QMix_0: not finished") for note in runs.notes)
    assert len(runs.tables[0].rows) == 1 + 10


def test_runs_that_cannot_be_compared_are_still_listed(make_trial: Make, tmp_path: Path) -> None:
    for seed in range(2):
        make_trial([line(100, None, {"loss": 1.0})], f"exp/QMix_{seed}", seed=seed)
    comparison, runs = report_on([str(tmp_path / "exp")]).sections
    assert comparison.notes[0].startswith("there is nothing to compare: ")
    assert len(runs.tables[0].rows) == 3


def test_a_csv_file_is_compared_too(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(
        "method,seed,env_steps,greedy_return,wall_s\n<b>a,0,10,1,1\n<b>a,1,10,2,1\nb,0,10,3,1\nb,1,10,4,1\n"
    )
    text = Tags(render(report_on([str(file)]))).text
    assert "<b>a" in text
    assert "1.00 [1.00, 1.00]" in text  # b is better than a


@pytest.fixture
def search(make_trial: Make, tmp_path: Path) -> Path:
    """A search of three trials over two settings, of which one has measured nothing."""
    for number, (lr, mixer, found) in enumerate([(1e-4, "qmix", -50.0), (1e-2, "vdn", -30.0), (1e-3, "vdn", None)]):
        measured = {} if found is None else {OBJECTIVE: found, OBJECTIVE_STEPS: 100}
        make_trial([line(100, found, **measured)], f"found/trial_{number}_x", lr=lr, mixer=mixer)
    section = {"metric": "greedy_return", "search_alg": "random", "scheduler": "fifo"}
    (tmp_path / "found" / SECTION_FILE).write_text(json.dumps(section))
    return tmp_path / "found"


def test_a_searchs_trials_are_ranked(search: Path) -> None:
    trials, settings, _ = report_on([str(search)]).sections
    assert trials.title == "Search: 3 trials, the best first"
    header, *rows = trials.tables[1].rows
    assert header == ["trial", "greedy_return", "at step", "steps", "stopped by", "lr", "mixer"]
    assert [row[0] for row in rows] == ["trial_1_x", "trial_0_x", "trial_2_x"]
    assert rows[0][1:] == ["-30", "100", "100", "not finished: still going on, or stopped", "0.01", "vdn"]
    assert rows[2][1] == "-"
    assert trials.notes[0].startswith("has not ended")
    assert trials.text.startswith(f"rllib report {search / 'trial_1_x'}")
    lr, mixer = settings.charts
    assert lr.log_x
    assert sorted(zip(lr.lines[0].x, lr.lines[0].y, strict=True)) == [(1e-4, -50.0), (1e-2, -30.0)]
    assert list(mixer.ticks) == ["vdn", "qmix"]
    assert list(mixer.lines[0].x) == [0.0, 1.0]


def test_the_least_is_the_best_where_the_search_says_so(search: Path) -> None:
    (search / SECTION_FILE).write_text(json.dumps({"metric": "loss", "mode": "min"}))
    trials = report_on([str(search)]).sections[0]
    assert [row[0] for row in trials.tables[1].rows[1:]] == ["trial_0_x", "trial_1_x", "trial_2_x"]


def test_a_search_that_ended_says_why_trials_stopped(search: Path) -> None:
    with (search / "search.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "greedy_return", "measured_at", "steps", "seconds", "stopped_by", "path"])
        writer.writerow(["2", "-30", "100", "100", "1", "scheduler", "/elsewhere/trial_1_x"])
    (search / "search.png").write_bytes(b"\x89PNG")
    trials = report_on([str(search)]).sections[0]
    assert trials.tables[1].rows[1][4] == "scheduler"
    assert trials.image.startswith("data:image/png;base64,")
    assert not any("has not ended" in note for note in trials.notes)


@pytest.fixture
def long_runs(make_trial: Make, tmp_path: Path) -> list[str]:
    """Twenty runs of a million steps, as long and as wordy as real ones: four methods, five seeds."""
    names = ("loss", "loss_td", "temperature", "pattern_entropy", "sample_argmax_agreement", "mask_flip_rate", "lr")
    filler = {f"setting_{number}": "x" * 40 for number in range(500)}
    for method in range(4):
        for seed in range(5):
            results = [
                line(
                    20_000 * number,
                    -80.0 + method + seed + number if number % 5 == 0 else None,
                    dict.fromkeys(names, (seed + 1) / number),
                    done=number == 50,
                    config=filler,
                )
                for number in range(1, 51)
            ]
            make_trial(results, f"method-{method}/QMix_{seed}", seed=seed)
    return [str(tmp_path / f"method-{method}") for method in range(4)]


def test_twenty_long_runs_are_a_small_page(long_runs: list[str]) -> None:
    began = time.process_time()
    html = render(report_on(long_runs))
    taken = time.process_time() - began
    assert len(html) < 1_000_000  # of the 15 MB that it may have
    assert len(charts_of(html)["Greedy return"]["lines"]) == 4
    assert taken < 20  # a few seconds where nothing else runs; the networks are built to count their parameters
