"""The `tune` section: what it comes to, and what is refused of it before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.experiment import Experiment, Overrides, read_experiments
from k24_rllib.experiments.search import check_section, write_section
from k24_rllib.experiments.stopping import ENV_STEPS, GREEDY_RETURN, TRAINING_RETURN

Spec = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture
def read(tiny: Spec, write: Write) -> Callable[..., Experiment]:
    """Reads a small search with a section of the test's."""

    def reader(section: Any, config: Spec | None = None, **overrides: Any) -> Experiment:
        tiny["config"] |= {"evaluation_interval": 1, "lr": {"loguniform": [1e-4, 1e-2]}, **(config or {})}
        (experiment,) = read_experiments(write(tiny | {"tune": section}), Overrides(**overrides))
        return experiment

    return reader


def test_an_empty_section_is_a_random_search(read: Callable[..., Experiment]) -> None:
    tuned = read({}).tune
    assert tuned is not None
    assert (tuned.search_alg, tuned.scheduler, tuned.mode, tuned.key) == ("random", "fifo", "max", GREEDY_RETURN)


@pytest.mark.parametrize(
    ("metric", "key"),
    [
        ("training_return", TRAINING_RETURN),
        ("episode_reward_mean", TRAINING_RETURN),
        ("evaluation/episode_reward_mean", GREEDY_RETURN),
        ("loss_td", "info/learner/default_policy/loss_td"),
        ("info/learner/default_policy/kl_div", "info/learner/default_policy/kl_div"),
    ],
)
def test_metrics_by_short_and_by_full_names(read: Callable[..., Experiment], metric: str, key: str) -> None:
    tuned = read({"metric": metric, "mode": "min"}).tune
    assert tuned is not None
    assert tuned.key == key


def test_schedulers_count_environment_steps_up_to_the_stop(read: Callable[..., Experiment]) -> None:
    tuned = read({"scheduler": "asha", "num_samples": 5, "max_concurrent_trials": 2, "time_budget_s": 60}).tune
    assert tuned is not None
    assert tuned.scheduler_options == {"time_attr": ENV_STEPS, "max_t": 400, "grace_period": 50}
    given = {"time_attr": "training_iteration", "max_t": 9, "grace_period": 2}
    tuned = read({"scheduler": {"async_hyperband": given}}).tune
    assert tuned is not None
    assert (tuned.scheduler, tuned.scheduler_options) == ("asha", given)


def test_a_section_says_how_many_trials_and_for_how_long(read: Callable[..., Experiment]) -> None:
    experiment = read({"num_samples": 5, "time_budget_s": 60})
    assert (experiment.num_samples, experiment.time_budget_s) == (5, 60)
    assert read({"num_samples": 5}, num_samples=7).num_samples == 7


def test_resources_become_what_rllib_asks_ray_for(read: Callable[..., Experiment]) -> None:
    config = read({"resources": {"cpu": 3, "gpu": 0.25}}, {"num_env_runners": 2}).config
    assert (config["num_cpus_for_main_process"], config["num_gpus"]) == (1, 0.25)


def test_values_in_place_of_the_space_leave_one_run(read: Callable[..., Experiment]) -> None:
    experiment = read({"num_samples": 5}, set=["lr=1e-3"])
    assert (experiment.tune, experiment.num_samples, experiment.config["lr"]) == (None, 1, 1e-3)


def test_a_population_carries_its_buffers_and_begins_with_draws(read: Callable[..., Experiment]) -> None:
    experiment = read({"scheduler": {"pbt": {"hyperparam_mutations": {"gamma": [0.9, 0.95]}}}})
    assert experiment.config["store_buffer_in_checkpoints"] is True
    assert experiment.config["gamma"] == {"choice": [0.9, 0.95]}
    assert experiment.tune is not None
    assert experiment.tune.scheduler_options["perturbation_interval"] == 100


def pbt(**mutations: Any) -> Spec:
    return {"scheduler": {"pbt": {"hyperparam_mutations": mutations}}}


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ("optuna", ["tune: got 'optuna'", "keys and values"]),
        ({"metrik": "score"}, ["unknown tune key 'metrik'", "'metric'"]),
        ({"metric": "greedy_retrun"}, ["no run reports", "'greedy_return'"]),
        ({"metric": 3}, ["metric: got 3"]),
        ({"mode": "maximum"}, ["mode: got 'maximum'", "'max'"]),
        ({"search_alg": "optun"}, ["unknown search_alg 'optun'", "'optuna'"]),
        ({"search_alg": {"optuna": {"sed": 1}}}, ["search_alg: optuna", "unknown option 'sed'", "'seed'"]),
        ({"search_alg": {"optuna": {"metric": "loss"}}}, ["metric in the tune section itself"]),
        ({"search_alg": {"optuna": {"sampler": "tpe"}}}, ["sampler is a Python object"]),
        ({"search_alg": "hebo"}, ["hebo needs a package", "pip install HEBO"]),
        ({"search_alg": "grid"}, ["grid can't go through lr"]),
        ({"scheduler": "ahsa"}, ["unknown scheduler 'ahsa'", "'asha'"]),
        ({"scheduler": {"asha": {"grace_perod": 3}}}, ["unknown option 'grace_perod'", "'grace_period'"]),
        ({"scheduler": {"asha": {"grace_period": 500}}}, ["grace_period: got 500", "at most max_t (400)"]),
        ({"scheduler": {"asha": {"reduction_factor": 1}}}, ["asha says: Reduction Factor not valid!"]),
        ({"scheduler": {"asha": {"time_attr": "timestep_total"}}}, ["time_attr", "'timesteps_total'"]),
        ({"scheduler": "pb2"}, ["pb2 needs a package", "pip install scikit-learn"]),
        ({"scheduler": "pbt"}, ["hyperparam_mutations: got None"]),
        (pbt(hidden_dim=[8, 16]), ["hidden_dim can't change on a live run", "shape"]),
        (pbt(buffer_episodes=[8, 16]), ["buffer_episodes can't change on a live run"]),
        (pbt(lrr=[1e-3, 1e-4]), ["unknown setting to change on a live run 'lrr'", "'lr'"]),
        (pbt(gamma={"uniform": [0.9, 1.1]}), ["hyperparam_mutations: gamma", "at most 1"]),
        (pbt(gamma={"unifrm": [0.9, 1.0]}), ["unknown distribution 'unifrm'"]),
        (pbt(gamma=[0.9]) | {"search_alg": "optuna"}, ["optuna with pbt", "expected random"]),
        (pbt(gamma=[0.9]) | {"max_concurrent_trials": 2}, ["max_concurrent_trials: got 2 with pbt"]),
        ({"num_samples": 0}, ["num_samples: got 0", "at least 1"]),
        ({"time_budget_s": -1}, ["time_budget_s: got -1"]),
        ({"resources": {"cpus": 1}}, ["unknown resource 'cpus'", "'cpu'"]),
        ({"resources": {"cpu": 0}}, ["resources: cpu: got 0"]),
    ],
)
def test_bad_sections_are_one_line(read: Callable[..., Experiment], section: Any, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        read(section)
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("section", "config", "part"),
    [
        ({}, {"evaluation_interval": None}, "expected evaluation_interval in config"),
        ({"metric": "score"}, {}, "knows no score"),
        ({}, {"lr": 1e-3}, "nothing to search"),
        ({"search_alg": "optuna"}, {"gamma": {"grid_search": [0.9, 0.95]}}, "can't search gamma by grid_search"),
    ],
)
def test_sections_that_do_not_go_with_the_rest(
    read: Callable[..., Experiment], section: Spec, config: Spec, part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        read(section, config)


def test_a_changed_section_is_not_resumed(read: Callable[..., Experiment], tmp_path: Path) -> None:
    begun = read({"num_samples": 4, "scheduler": "asha"}).tune
    write_section(tmp_path, begun)
    check_section(tmp_path, begun)
    with pytest.raises(ConfigError, match="tune: num_samples: got 5, expected 4: --resume"):
        check_section(tmp_path, read({"num_samples": 5, "scheduler": "asha"}).tune)
    with pytest.raises(ConfigError, match="it had one, the file has none"):
        check_section(tmp_path, None)
    write_section(tmp_path, None)
    with pytest.raises(ConfigError, match="it had none, the file has one"):
        check_section(tmp_path, begun)
    assert json.dumps(begun.given if begun else None)
