"""A team's file: what is read is exactly what was written, small, open to other programs, and refused if it is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from k24_rllib.checks import ConfigError
from k24_rllib.serve import DTYPES, Cell, Linear, Numbers, Spec, Team, load_agent, read_team, write_team
from k24_rllib.serve.container import read_container, write_container
from k24_rllib.serve.report import dense_bytes

KINDS = ["2:4", "2:4 feedforward", "1:4 one mask", "kaleidoscope", "independent", "dense"]
Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["packed", "plain"])
def test_what_is_read_is_what_was_written(make: Callable, tmp_path: Path, kind: str, dtype: str, form: str) -> None:
    team = make(kind).team(dtype)
    size = write_team(tmp_path / "team.safetensors", team, form)
    file = read_team(tmp_path / "team.safetensors")
    assert (file.form, file.nbytes, file.team.spec) == (form, size, team.spec)
    for ours, theirs in zip(team.stages, file.team.stages, strict=True):
        assert (ours.name, type(ours)) == (theirs.name, type(theirs))
        if isinstance(ours, Cell):
            assert isinstance(theirs, Cell)
            pairs = [(getattr(ours, name).float32(), getattr(theirs, name).float32()) for name in ("w_ih", "w_hh")]
            pairs += [(ours.b_ih, theirs.b_ih), (ours.b_hh, theirs.b_hh)]
        else:
            assert isinstance(theirs, Linear)
            assert (ours.relu, ours.ratio) == (theirs.relu, theirs.ratio)
            pairs = [(ours.weights(), theirs.weights()), (ours.bias, theirs.bias)]
        for its, same in pairs:
            np.testing.assert_array_equal(its, same)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_keeps_each_owners_weights_exactly(make: Callable, tmp_path: Path, kind: str) -> None:
    made = make(kind)
    write_team(tmp_path / "team.safetensors", made.team())
    layers = read_team(tmp_path / "team.safetensors").team.layers()
    for layer, module in zip(layers, made.model.agent.layers(), strict=True):
        expected = module.weights(explore=False).detach().numpy()
        np.testing.assert_array_equal(np.broadcast_to(layer.weights(), expected.shape), expected)


def test_owners_keep_other_weights(make: Callable) -> None:
    for kind in ("2:4", "kaleidoscope"):
        for layer in make(kind).team().layers():
            masks = layer.masks()
            assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("form", ["packed", "plain"])
def test_any_program_reads_it(make: Callable, tmp_path: Path, form: str) -> None:
    team = make("2:4").team()
    write_team(tmp_path / "team.safetensors", team, form)
    arrays = load_file(tmp_path / "team.safetensors")
    fc1 = team.layers()[0]
    expected = fc1.weights() if form == "plain" else fc1.weight.float32()
    np.testing.assert_array_equal(arrays["fc1.weight"], expected)


def wide_team(dtype: str, owners: int = 10, hidden: int = 256, obs_dim: int = 60, actions: int = 5) -> Team:
    """Returns a 2:4 team of the default agent's form with random weights and patterns."""
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> Numbers:
        return Numbers.of("w", rng.standard_normal((1, rows, columns)).astype(np.float32), dtype)

    def layer(name: str, rows: int, columns: int) -> Linear:
        patterns = rng.integers(6, size=(owners, rows, columns // 4)).astype(np.uint8)
        bias = np.zeros((1, rows), np.float32)
        return Linear(name, name != "fc4", matrix(rows, columns), bias, (2, 4), patterns)

    bias = np.zeros((1, 3 * hidden), np.float32)
    cell = Cell("middle", matrix(3 * hidden, hidden), matrix(3 * hidden, hidden), bias, bias)
    inputs = obs_dim + owners + actions
    inputs += -inputs % 4
    rest = (layer("fc2", hidden, hidden), layer("fc3", hidden, hidden), layer("fc4", actions, hidden))
    agents = tuple(f"agent_{i}" for i in range(owners))
    spec = Spec("K24QMix", "any", agents, inputs - owners, actions, owners, None, True, False, hidden, dtype, "0.1.0")
    return Team(spec, (layer("fc1", hidden, inputs), cell, *rest))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ten_agents_take_little_more_than_one(tmp_path: Path, dtype: str) -> None:
    team = wide_team(dtype)
    size = write_team(tmp_path / "team.safetensors", team)
    weights = 256 * 76 + 2 * 3 * 256 * 256 + 2 * 256 * 256 + 5 * 256
    biases = 256 * 3 + 5 + 2 * 3 * 256
    dense = 10 * (weights * {"float32": 4, "int8": 1}.get(dtype, 2) + biases * 4)
    assert dense_bytes(team) == dense + (10 * 4 * (3 * 256 + 5 + 2 * 3 * 256) if dtype == "int8" else 0)
    assert size / dense <= 0.13  # a tenth is the shared weights, the rest patterns


def spoil(path: Path, change: Change) -> None:
    """Changes a file's arrays and texts, and gives it the digest that is right for them: what a liar would do."""
    arrays, about = read_container(path)
    spoilt: dict[str, Any] = dict(arrays)
    texts: dict[str, Any] = {key: json.loads(about[key]) for key in ("team", "stages")}
    texts["form"] = about["form"]
    change(spoilt, texts)
    given = {key: value if key == "form" else json.dumps(value) for key, value in texts.items()}
    write_container(path, spoilt, given)


def six(arrays: dict[str, Any], texts: dict[str, Any]) -> None:
    packed = arrays["fc2.patterns"].copy()
    packed[1, 2, 0] |= 7
    arrays["fc2.patterns"] = packed


def three_of_four(arrays: dict[str, Any], texts: dict[str, Any]) -> None:
    weight = arrays["fc2.weight"].copy()
    weight[1, 2, :3] = 1.0
    arrays["fc2.weight"] = weight


def not_a_number(arrays: dict[str, Any], texts: dict[str, Any]) -> None:
    arrays["fc3.bias"] = np.full_like(arrays["fc3.bias"], np.nan)


LIES: list[tuple[str, Change, str]] = [
    ("packed", six, "fc2.patterns: is not 2:4: a pattern 7"),
    ("plain", three_of_four, "fc2.weight: is not 2:4: keeps 3 of a group of 4"),
    ("packed", not_a_number, "fc3.bias: holds a number that is not finite"),
    ("packed", lambda a, t: a.pop("fc1.weight"), "fc1.weight: is missing"),
    ("packed", lambda a, t: a.update(more=np.zeros(1, np.float32)), "more: is of no stage"),
    ("packed", lambda a, t: a.update({"fc4.bias": np.zeros((1, 4), np.float32)}), "fc4.bias: got float32 [1, 4]"),
    ("packed", lambda a, t: t["stages"].reverse(), "fc4: takes 8 numbers, expected the 14 before it"),
    ("packed", lambda a, t: t["stages"].pop(), "network: action values: got 8, expected 5"),
    ("packed", lambda a, t: t["stages"][0].update(kind="eval"), "fc1: kind: got 'eval', expected linear or gru"),
    ("packed", lambda a, t: t["stages"][0].update(ratio=[9, 4]), "fc1: ratio: got [9, 4], expected n of every m"),
    ("packed", lambda a, t: t["stages"][0].update(shape=[1, -8, 14]), "fc1: shape: got [1, -8, 14]"),
    ("packed", lambda a, t: t["team"].update(owners=[0, 2]), "team: sizes, names, flags or owners"),
    ("packed", lambda a, t: t["team"].update(obs_dim=13), "fc1: takes 14 numbers, expected the 15 before it"),
    ("packed", lambda a, t: t["team"].update(memory=-8), "network: memory: got 8, expected -8"),
    ("packed", lambda a, t: t["team"].pop("agents"), "team: is not what this version writes"),
    ("packed", lambda a, t: t.update(form="zip"), "form: got 'zip', expected packed or plain"),
]


@pytest.mark.parametrize(("form", "change", "said"), LIES, ids=[said for _, _, said in LIES])
def test_parts_that_dont_fit_are_named(make: Callable, tmp_path: Path, form: str, change: Change, said: str) -> None:
    path = tmp_path / "team.safetensors"
    write_team(path, make("2:4").team(), form)
    spoil(path, change)
    with pytest.raises(ConfigError) as refused:
        load_agent(path)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


def test_every_flipped_bit_and_every_cut_is_found(make: Callable, tmp_path: Path) -> None:
    path = tmp_path / "team.safetensors"
    write_team(path, make("2:4").team())
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        bit = rng.randrange(8 * len(whole))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"is damaged|or a damaged one|is truncated"):
            load_agent(path)
    for _ in range(50):
        path.write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(ConfigError, match=r"is truncated|or a damaged one"):
            load_agent(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match=rf"is truncated \(got {len(whole) - 1} bytes, expected {len(whole)}\)"):
        load_agent(path)
    path.write_bytes(whole + b" ")
    with pytest.raises(ConfigError, match="is damaged"):
        load_agent(path)


def test_another_version_and_another_kind_of_file(make: Callable, tmp_path: Path) -> None:
    path = tmp_path / "team.safetensors"
    write_container(path, {}, {"format_version": "2"})
    with pytest.raises(ConfigError, match="is of format 'k24_rllib team 2', expected k24_rllib team 1"):
        load_agent(path)
    made = make("2:4")
    from k24_rllib.qmix.weights import save_weights

    save_weights(made.model, made.config, path)
    with pytest.raises(ConfigError, match=r"is of format 'k24_rllib weights 1', .*rllib export .* makes one"):
        load_agent(path)
    with pytest.raises(ConfigError, match=r"none.safetensors: can't be read \(No such file"):
        load_agent(tmp_path / "none.safetensors")


def test_a_team_of_other_spaces(make: Callable, tmp_path: Path) -> None:
    path = tmp_path / "team.safetensors"
    write_team(path, make("2:4").team())
    assert load_agent(path, num_agents=2, obs_dim=12, num_actions=5).spec.num_agents == 2
    for sizes, said in (
        ({"num_agents": 3}, "is of a team of mpe_simple_spread with 2 agents, expected 3"),
        ({"obs_dim": 18}, "with 12 numbers in an observation, expected 18"),
        ({"num_actions": 4}, "with 5 actions, expected 4"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_agent(path, **sizes)
