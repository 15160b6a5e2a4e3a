"""Parts of the user's own that can't work are named in one line before Ray starts."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

Call = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]

LAYER = """\
import torch
from k24_rllib.sparsity import MaskedLayer
class {name}(MaskedLayer):
    def __init__(self, in_features, out_features, num_masks, *, gain=1.0):
        super().__init__(in_features, out_features, num_masks)
        self.init_shared(in_features)
    def weights(self, explore):
        return {weights}
"""
ENVIRONMENT = """\
import numpy as np
from k24_rllib.envs import TeamEnv, TeamStep
class {name}(TeamEnv):
    def __init__(self, num_envs, size=1):
        self.num_envs, self.num_agents, self.num_mask_owners, self.episode_limit = num_envs, 2, 2, 3
        self.obs_dim, self.state_dim, self.num_actions = 1, 2, 2
    def reset(self, seed=None):
        e = self.num_envs
        given = dict(obs=np.zeros((e, 2, 1), np.float32), state=np.zeros((e, 2), np.float32),
            avail_actions=np.ones((e, 2, 2), bool), mask_ids=np.zeros((e, 2), np.int64),
            team_reward=np.zeros(e, np.float32), agent_rewards=np.zeros((e, 2), np.float32),
            terminated=np.zeros(e, bool), truncated=np.zeros(e, bool))
        return TeamStep(**(given | dict({change})))
    def step(self, actions):
        return self.reset()
"""


def a_module(name: str, code: str, registration: str) -> str:
    return f"import k24_rllib\n{textwrap.dedent(code)}\nk24_rllib.{registration}\n"


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "taken": (
        a_module("taken", LAYER.format(name="Mine", weights="self.weight"), "register_layer('dense', Mine)"),
        {"run": "QMix"},
        "layer 'dense': exists already (k24_rllib.sparsity.layer.DenseLinear), expected another name",
    ),
    "unknown_option": (
        a_module("unknown_option", LAYER.format(name="Mine", weights="self.weight"), "register_layer('mine_1', Mine)"),
        {"run": "QMix", "config": {"layer": "mine_1", "layer_options": {"gian": 2.0}}},
        "unknown layer_options key 'gian' of layer 'mine_1'; did you mean 'gain'?",
    ),
    "no_layer": (
        a_module("no_layer", "def make(i, j, a):\n    return (i, j)", "register_layer('no_layer', make)"),
        {"run": "QMix", "config": {"layer": "no_layer"}},
        "layer 'no_layer': its factory made a tuple, expected a MaskedLayer",
    ),
    "no_agent": (
        a_module("no_agent", "def make(i, u, a, layer):\n    return layer(i, u)", "register_agent('no_agent', make)"),
        {"run": "QMix", "config": {"agent": "no_agent"}},
        "agent 'no_agent': its factory made a DenseLinear, expected an Agent",
    ),
    "no_mixer": (
        a_module("no_mixer", "def make(n, s):\n    return sum", "register_mixer('no_mixer', make)"),
        {"run": "QMix", "config": {"mixer": "no_mixer"}},
        "mixer 'no_mixer': its factory made a builtin_function_or_method, expected a Module",
    ),
    "raises": (
        a_module("raises", "def make(n, s):\n    raise RuntimeError('no luck')", "register_mixer('raises', make)"),
        {"run": "QMix", "config": {"mixer": "raises"}},
        "mixer 'raises': can't be made (RuntimeError: no luck)",
    ),
    "flat_mixer": (
        a_module(
            "flat_mixer",
            "from torch import nn\nclass Flat(nn.Module):\n    def __init__(self, n, s):\n        super().__init__()\n"
            "    def forward(self, agent_q, state):\n        return agent_q.sum(-1)",
            "register_mixer('flat', Flat)",
        ),
        {"run": "QMix", "config": {"mixer": "flat"}},
        "Flat.forward: joint values: got shape [2, 3], expected [2, 3, 1] or [2, 3, 2]",
    ),
    "wrong_kind": (
        a_module("wrong_kind", LAYER.format(name="Mine", weights="self.weight"), "register_layer('mine_2', Mine)"),
        {"run": "K24QMix", "config": {"layer": "mine_2"}},
        "layer: got 'mine_2' with an algorithm that learns masks, expected null or a SemiStructuredLinear",
    ),
    "no_algorithm": (
        a_module("no_algorithm", "class Mine: pass", "register_algorithm('Mine', Mine)"),
        {"run": "QMix"},
        "algorithm 'Mine': got <class 'no_algorithm.Mine'>, expected a subclass of QMix",
    ),
    "owners": (
        a_module(
            "owners",
            ENVIRONMENT.format(name="Owners", change="mask_ids=np.full((e, 2), 2)"),
            "register_team_env('owners_out_of_range', Owners)",
        ),
        {"run": "QMix", "env": "owners_out_of_range", "config": {}},
        "mask_ids: copy 0, agent 0: got 2, expected 0 to 1 (num_mask_owners 2)",
    ),
    "shape": (
        a_module(
            "shape",
            ENVIRONMENT.format(name="Shape", change="obs=np.zeros((e, 2, 3), np.float32)"),
            "register_team_env('another_shape', Shape)",
        ),
        {"run": "QMix", "env": "another_shape", "config": {}},
        "Shape.reset: obs: got float32 [1, 2, 3], expected float32 [1, 2, 1]",
    ),
    "env_option": (
        a_module("env_option", ENVIRONMENT.format(name="Sized", change=""), "register_team_env('sized', Sized)"),
        {"run": "QMix", "env": "sized", "config": {"env_config": {"sise": 2}}},
        "unknown env_config key 'sise' of environment 'sized'; did you mean 'size'?",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_in_one_line_before_ray_starts(
    call: Call, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, experiment, message = CASES[name]
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    if experiment["run"] != "QMix":
        experiment = {**experiment, "stop": {"timesteps_total": 100}}
    path = write({"env": "mpe_simple_spread", **experiment, **_with_two_agents(experiment)})
    done = call("train", "-f", path, "--import", name)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not ray.is_initialized()


def _with_two_agents(experiment: dict[str, Any]) -> dict[str, Any]:
    config = dict(experiment.get("config") or {})
    if "env" not in experiment:
        config.setdefault("env_config", {"N": 2})
    return {"config": config}
