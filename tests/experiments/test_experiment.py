"""Reading an experiment file: what it comes to, and what the command line changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.experiment import Experiment, Overrides, read_experiments
from k24_rllib.experiments.stopping import ENV_STEPS

EXAMPLES = Path(__file__).parents[2] / "tuned_examples"

Spec = dict[str, Any]
Write = Callable[..., Path]


def read_one(path: Path, **overrides: Any) -> Experiment:
    (experiment,) = read_experiments(path, Overrides(**overrides))
    return experiment


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_tuned_examples_are_in_order(path: Path) -> None:
    assert read_experiments(path, Overrides())


METHODS = {
    "k24": ("K24QMix", {"total_env_steps"}),
    "fixed_random": ("K24QMix", {"total_env_steps", "div_coef", "masks"}),
    "shared_mask": ("K24QMix", {"total_env_steps", "div_coef", "shared_mask"}),
    "kaleidoscope": ("KaleidoscopeQMix", {"total_env_steps"}),
    "independent": ("QMix", {"layer"}),
    "hyper": ("QMix", {"layer"}),
    "half_width": ("QMix", {"hidden_dim"}),
}
"""What each method's example runs, and the keys that it has beyond those of dense QMIX's."""


@pytest.mark.parametrize("name", METHODS)
def test_examples_of_one_task_differ_in_nothing_but_their_method(name: str) -> None:
    example, dense = read_one(EXAMPLES / f"{name}_spread.yaml"), read_one(EXAMPLES / "qmix_spread.yaml")
    run, added = METHODS[name]
    assert example.run == run
    assert added <= set(example.config)
    assert {key: value for key, value in example.config.items() if key not in added} == dense.config
    assert (example.stop, example.checkpoint_config) == (dense.stop, dense.checkpoint_config)


def test_the_first_draft_keeps_the_values_of_the_first_write_ups() -> None:
    given = read_one(EXAMPLES / "k24_spread_first_draft.yaml").config
    assert (given["temperature_init"], given["temperature_final"], given["temperature_end"]) == (5.0, 0.2, 0.8)
    assert (given["reset_interval"], given["finetune_at"], given["gamma"], given["lr"]) == (10_000, 0.8, 0.99, 5e-4)
    assert given["target_update_tau"] is None


def test_the_file_as_it_stands(tiny: Spec, write: Write) -> None:
    experiment = read_one(write(tiny))
    assert experiment.name == "tiny"
    assert experiment.run == "K24QMix"
    assert experiment.config["env"] == "mpe_simple_spread"
    assert experiment.stop == {ENV_STEPS: 400}
    assert experiment.config["total_env_steps"] == 400
    assert experiment.checkpoint_config == {"checkpoint_at_end": True}
    assert experiment.storage_path == str(Path("~/ray_results").expanduser())


def test_rllibs_old_spelling_of_qmix_is_known(tiny: Spec, write: Write) -> None:
    assert read_one(write(tiny | {"run": "QMIX"})).run == "QMix"


def test_the_environment_may_stand_in_the_config(tiny: Spec, write: Write) -> None:
    tiny["config"]["env"] = tiny.pop("env")
    assert read_one(write(tiny)).config["env"] == "mpe_simple_spread"


def test_an_empty_env_config_is_an_environment_without_options(tiny: Spec, write: Write) -> None:
    text = yaml.safe_dump({"tiny": tiny}).replace("env_config:\n      N: 2\n", "env_config:\n")
    assert read_one(write(text)).config["env_config"] == {}
    assert read_one(write(tiny), set=["env_config=null"]).config["env_config"] == {}


def test_what_the_file_says_about_checkpoints_is_obeyed(tiny: Spec, write: Write) -> None:
    tiny["checkpoint_config"] = {"checkpoint_frequency": 7, "num_to_keep": 2, "checkpoint_at_end": False}
    assert read_one(write(tiny)).checkpoint_config == tiny["checkpoint_config"]
    assert read_one(write(tiny), checkpoint_freq=3).checkpoint_config["checkpoint_frequency"] == 3


def test_old_keys_for_checkpoints_and_storage(tiny: Spec, write: Write, tmp_path: Path) -> None:
    tiny |= {"checkpoint_freq": 4, "checkpoint_at_end": False, "keep_checkpoints_num": 1, "local_dir": str(tmp_path)}
    experiment = read_one(write(tiny))
    assert experiment.checkpoint_config == {
        "checkpoint_frequency": 4,
        "checkpoint_at_end": False,
        "num_to_keep": 1,
    }
    assert experiment.directory == f"{tmp_path}/tiny"


def test_set_reaches_any_depth_and_reads_yaml(tiny: Spec, write: Write) -> None:
    experiment = read_one(write(tiny), set=["lr=5e-3", "env_config.N=4", "gamma={grid_search: [0.9, 0.99]}"])
    assert experiment.config["lr"] == 5e-3
    assert experiment.config["env_config"] == {"N": 4}
    assert experiment.config["gamma"] == {"grid_search": [0.9, 0.99]}


def test_stop_is_merged_under_todays_names(tiny: Spec, write: Write) -> None:
    experiment = read_one(write(tiny), stop=['{"num_env_steps_sampled_lifetime": 800}', "training_iteration=3"])
    assert experiment.stop == {ENV_STEPS: 800, "training_iteration": 3}
    assert experiment.config["total_env_steps"] == 800


def test_one_seed_is_set_and_several_become_trials(tiny: Spec, write: Write) -> None:
    assert read_one(write(tiny), seeds=[5]).config["seed"] == 5
    assert read_one(write(tiny), seeds=[5, 6]).config["seed"] == {"grid_search": [5, 6]}


def test_the_runs_length_is_said_once(tiny: Spec, write: Write) -> None:
    tiny["config"]["total_env_steps"] = 1000
    assert read_one(write(tiny)).config["total_env_steps"] == 1000
    del tiny["stop"]
    assert read_one(write(tiny)).stop == {ENV_STEPS: 1000}
    del tiny["config"]["total_env_steps"]
    with pytest.raises(ConfigError, match="total_env_steps: is missing"):
        read_one(write(tiny))
    assert read_one(write(tiny | {"run": "QMix"})).stop == {}


def test_a_file_may_hold_several_experiments(tiny: Spec, write: Write, tmp_path: Path) -> None:
    path = write(yaml.safe_dump({"a": tiny, "b": tiny | {"run": "QMix"}}))
    experiments = read_experiments(path, Overrides(storage_path=str(tmp_path)))
    assert [(e.name, e.run) for e in experiments] == [("a", "K24QMix"), ("b", "QMix")]


def test_every_point_of_a_grid_is_checked(tiny: Spec, write: Write) -> None:
    tiny["config"]["gamma"] = {"grid_search": [0.9, 1.5]}
    with pytest.raises(ConfigError, match=r"gamma: got 1\.5, expected"):
        read_one(write(tiny))
    tiny["config"]["gamma"] = 0.9
    tiny["config"]["env_config"] = {"N": {"grid_search": [2, 0]}}
    with pytest.raises(ConfigError, match=r"N: got 0"):
        read_one(write(tiny))
