"""What a file may search over, and what is refused of it before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.experiment import Overrides, read_experiments
from k24_rllib.experiments.space import DISTRIBUTIONS, as_tune, space_axes, value_at

Spec = dict[str, Any]
Write = Callable[..., Path]

EXAMPLES: dict[str, list[Any]] = {
    "choice": [1, 2],
    "uniform": [0.1, 0.2],
    "quniform": [0.1, 0.5, 0.1],
    "loguniform": [1e-4, 1e-2],
    "qloguniform": [0.1, 10.0, 0.1],
    "randint": [2, 5],
    "qrandint": [2, 10, 2],
    "lograndint": [2, 50],
    "qlograndint": [2, 50, 2],
    "randn": [0.5, 0.01],
    "qrandn": [0.5, 0.01, 0.01],
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_distribution_draws_between_the_ends_that_were_checked(name: str) -> None:
    given = DISTRIBUTIONS[name].check("key", EXAMPLES[name])
    tried = DISTRIBUTIONS[name].values(given)
    drawn = DISTRIBUTIONS[name].make(given).sample(size=200, random_state=np.random.default_rng(0))
    assert min(tried) - 1e-9 <= min(drawn) <= max(drawn) <= max(tried) + 1e-9


def test_distributions_stand_at_any_depth_beside_grids() -> None:
    config = {
        "lr": {"loguniform": [1e-4, 1e-2]},
        "env_config": {"N": {"randint": [2, 4]}, "max_cycles": {"choice": [5, 10]}},
        "gamma": {"grid_search": [0.9, 0.99]},
        "layer_options": {"choice": [1, 2]},  # an option of that name
    }
    assert [axis.name for axis in space_axes(config)] == ["lr", "env_config.N", "env_config.max_cycles", "gamma"]
    made = as_tune(config)
    assert made["env_config"]["N"].lower == 2
    assert (made["gamma"], made["layer_options"]) == (config["gamma"], config["layer_options"])
    assert as_tune(config, grid=True)["env_config"]["max_cycles"] == {"grid_search": [5, 10]}
    assert value_at({"a": {"b": np.float64(2.0)}}, ("a", "b")) == 2.0


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("lr", {"loguniform": [1e-2, 1e-4]}, ["lr: got loguniform", "low below high"]),
        ("lr", {"loguniform": [0, 1e-2]}, ["lr: loguniform (low): got 0", "above 0"]),
        ("lr", {"uniform": [-1e-4, 1e-2]}, ["lr: got -0.0001", "above 0"]),
        ("lr", {"loguniform": [1e-4]}, ["expected loguniform: [low, high]"]),
        ("lr", {"loguniform": ["a", 1]}, ["got 'a'", "a number"]),
        ("lr", {"logunifrom": [1e-4, 1e-2]}, ["unknown distribution 'logunifrom'", "'loguniform'"]),
        ("lr", {"sample_from": "lambda: 1"}, ["sample_from calls a Python function"]),
        ("lr", {"loguniform": [1e-4, 1e-2], "gamma": 1}, ["nothing beside it"]),
        ("lr", {"choice": []}, ["expected choice: [a, b, ...]"]),
        ("gamma", {"uniform": [0.9, 1.1]}, ["gamma: got 1.1", "at most 1"]),
        ("gamma", {"quniform": [0.85, 0.95, 0.1]}, ["multiples of q"]),
        ("gamma", {"randn": [0.9, 0.1]}, ["gamma: got 1.3", "at most 1"]),
        ("hidden_dim", {"randint": [8.5, 16]}, ["hidden_dim: randint (low): got 8.5", "whole number"]),
        ("hidden_dim", {"uniform": [8, 16]}, ["hidden_dim: got 12.0", "whole number"]),
        ("env_config", {"N": {"randnt": [2, 4]}}, ["env_config.N: unknown distribution 'randnt'", "'randint'"]),
        ("env_config", {"N": {"randint": [0, 4]}}, ["N: got 0"]),
        ("num_env_runners", {"choice": [0, 1]}, ["num_env_runners: got a distribution", "same for all"]),
        ("total_env_steps", {"choice": [400, 800]}, ["total_env_steps: got a distribution", "file's stop"]),
        ("env", {"choice": ["mpe_simple_spread", "mpe_simple"]}, ["env: got a distribution", "can't be ranked"]),
    ],
)
def test_bad_spaces_are_one_line(tiny: Spec, write: Write, key: str, value: Any, parts: list[str]) -> None:
    tiny["config"][key] = value
    if key == "env":
        del tiny["env"]
    with pytest.raises(ConfigError) as raised:
        read_experiments(write(tiny), Overrides())
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value)


def test_the_seed_and_parts_of_the_network_can_be_searched(tiny: Spec, write: Write) -> None:
    tiny["config"] |= {
        "seed": {"randint": [0, 100]},
        "hidden_dim": {"choice": [8, 16]},
        "lr": {"uniform": [1e-4, 1e-3]},
    }
    (experiment,) = read_experiments(write(tiny | {"num_samples": 3}), Overrides(set=["lr=1e-3"]))
    assert [axis.name for axis in space_axes(experiment.config)] == ["seed", "hidden_dim"]
    assert experiment.num_samples == 3
