"""Searches that Tune really runs, with every size shrunk."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k24_rllib.experiments import Overrides, RunOptions, read_experiments, run_experiment
from k24_rllib.experiments.search_report import BUDGET, SCHEDULER, make_rows, winner_words, write_search
from k24_rllib.experiments.stopping import ENV_STEPS, GREEDY_RETURN, result_value

Spec = dict[str, Any]
Write = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("ray_session")


def results(trial: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(trial.path) / "result.json").read_text().splitlines()]


def greedy(trial: Any) -> list[tuple[float | None, float | None]]:
    return [(result_value(one, ENV_STEPS), result_value(one, GREEDY_RETURN)) for one in results(trial)]


def test_the_printed_words_repeat_the_winner_exactly(write: Write, tiny: Spec, tmp_path: Path) -> None:
    tiny["tune"] = {
        "search_alg": {"optuna": {"seed": 0}},
        "scheduler": {"asha": {"grace_period": 100, "reduction_factor": 2}},
        "num_samples": 3,
        "max_concurrent_trials": 2,
    }
    tiny["config"] |= {"evaluation_interval": 2, "evaluation_duration": 4, "div_coef": {"uniform": [0.0, 0.5]}}
    tiny["config"]["lr"] = {"loguniform": [1e-3, 3e-2]}
    path = write(tiny)
    (experiment,) = read_experiments(path, Overrides(storage_path=str(tmp_path)))
    outcome = run_experiment(experiment, RunOptions())
    rows = make_rows(experiment, outcome.trials)
    assert len({row.trial.trial_id for row in rows}) == 3
    assert all(row.why in (BUDGET, SCHEDULER) for row in rows)
    assert [row.metric for row in rows] == sorted((row.metric for row in rows), reverse=True)
    assert [result["search_metric"] for result in results(rows[0].trial)][-1] == rows[0].metric

    told = write_search(experiment, rows, tmp_path / "tiny")
    assert (tmp_path / "tiny" / "search.png").stat().st_size > 10_000
    with (tmp_path / "tiny" / "search.csv").open() as file:
        assert float(next(iter(csv.DictReader(file)))["lr"]) == rows[0].values["lr"]
    assert any("no importances" in line for line in told)  # of three trials

    words = winner_words(experiment, rows[0])
    sets = [value for option, value in zip(words[::2], words[1::2], strict=True) if option == "--set"]
    (again,) = read_experiments(path, Overrides(set=sets, seeds=[0], storage_path=words[-1]))
    (trial,) = run_experiment(again, RunOptions()).trials
    found = greedy(rows[0].trial)
    assert found[-1] in greedy(trial)
    assert greedy(trial)[: len(found)] == found


def test_a_population_changes_settings_that_act_in_the_learner(write: Write, tiny: Spec, tmp_path: Path) -> None:
    tiny["stop"] = {"timesteps_total": 600}
    mutations = {
        "lr": [1e-3, 1e-2, 1e-1],
        "epsilon_final": {"uniform": [0.1, 0.9]},
        "div_coef": {"uniform": [0.1, 0.5]},
    }
    # Together, so that which trial is faster decides nothing.
    options = {"perturbation_interval": 200, "quantile_fraction": 0.5, "synch": True, "hyperparam_mutations": mutations}
    tiny["tune"] = {"num_samples": 2, "scheduler": {"pbt": options}}
    tiny["config"] |= {"evaluation_interval": 1, "evaluation_duration": 4, "epsilon_timesteps": 0}
    (experiment,) = read_experiments(write(tiny), Overrides(storage_path=str(tmp_path)))
    outcome = run_experiment(experiment, RunOptions())
    assert not outcome.failed
    exploits = (tmp_path / "tiny" / "pbt_global.txt").read_text().splitlines()
    assert exploits
    for trial in outcome.trials:
        last = results(trial)[-1]
        learned = last["info"]["learner"]["default_policy"]
        assert (learned["lr"], learned["epsilon"]) == (trial.config["lr"], trial.config["epsilon_final"])
        assert 0.1 <= trial.config["epsilon_final"] <= 0.9
        assert last[ENV_STEPS] == 600
        assert last["info"]["num_updates"] == 6  # a quarter of 24 episodes: none is lost, none made twice
