"""Files whose digest is right and whose content is not: whatever they say, reading ends in one line or in a team."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.serve import load_agent, write_team
from k24_rllib.serve.container import read_container, write_container

ODD = (
    None,
    True,
    -1,
    0,
    1,
    3,
    2**40,
    10**30,
    0.5,
    float("nan"),
    "",
    "a",
    "fc1",
    "a.b",
    [],
    [0],
    [1, 2, 3],
    {},
    {"a": 1},
)


def change_somewhere(value: Any, rng: np.random.Generator) -> Any:
    """Returns JSON with one value, at any depth, taken away or become another."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or rng.random() < 0.3:
        return ODD[rng.integers(len(ODD))]
    key = keys[rng.integers(len(keys))]
    if rng.random() < 0.15:
        copy = list(value) if isinstance(value, list) else dict(value)
        del copy[key]
        return copy
    changed = change_somewhere(value[key], rng)
    if isinstance(value, list):
        return [changed if place == key else its for place, its in enumerate(value)]
    return {**value, key: changed}


def change_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns an array of another shape or type, or with other bits."""
    kind = rng.integers(4)
    if kind == 0:
        return array.reshape(-1)
    if kind == 1:
        return array[..., :-1]
    if kind == 2:
        return array.view(np.int8) if array.ndim else array
    return np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)


@pytest.mark.parametrize("kind", ["2:4", "kaleidoscope", "independent"])
@pytest.mark.parametrize("form", ["packed", "plain"])
def test_nothing_but_a_line(make: Callable, tmp_path: Path, kind: str, form: str) -> None:
    path, rng = tmp_path / "team.safetensors", np.random.default_rng(0)
    write_team(path, make(kind).team("int8" if form == "plain" else "bfloat16"), form)
    arrays, about = read_container(path)
    refused = []
    for _ in range(250):
        texts, spoilt = dict(about), dict(arrays)
        if rng.random() < 0.7:
            key = ("team", "stages")[rng.integers(2)]
            texts[key] = json.dumps(change_somewhere(json.loads(texts[key]), rng))
        else:
            name = sorted(spoilt)[rng.integers(len(spoilt))]
            spoilt[name] = change_array(spoilt[name], rng)
        write_container(path, spoilt, texts)
        try:
            agent = load_agent(path)
            spec = agent.spec
            owners = np.zeros((1, spec.num_agents), int) if spec.owners is None else None
            agent.act(np.zeros((1, spec.num_agents, spec.obs_dim)), agent.initial_state(), owners=owners)
        except ConfigError as error:
            refused.append(str(error).replace(str(path), ""))
    assert len(refused) > 150
    assert max(map(len, refused)) < 300
