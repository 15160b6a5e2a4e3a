"""A served team acts as the network that it was made of, and refuses by name what it can't act on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.export import compare_actions
from k24_rllib.serve import Linear, Numbers, ServedAgent, Spec, Team, load_agent, write_team
from k24_rllib.serve.backend import make_backend
from k24_rllib.serve.onnx_graph import write_onnx
from k24_rllib.serve.torch_backend import ProgramBackend, write_program

KINDS = ["2:4", "2:4 feedforward", "1:4 one mask", "kaleidoscope", "independent", "hyper", "dense"]
FORMS = ["packed", "plain", "onnx"]
SHARE_EQUAL = {"bfloat16": 0.97, "float16": 0.99, "int8": 0.95}
"""Of actions, at least, with weights in fewer bits; docs/serving.md has the shares of a trained team."""


def load(path: Path, team: Team, form: str) -> ServedAgent:
    file = path / ("team.onnx" if form == "onnx" else "team.safetensors")
    if form == "onnx":
        write_onnx(file, team)
    else:
        write_team(file, team, form)
    return load_agent(file)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_as_the_network_on_10_000_observations(make: Callable, tmp_path: Path, kind: str, form: str) -> None:
    made = make(kind)
    agent = load(tmp_path, made.team(), form)
    agreement = compare_actions(made.model, agent.backend, made.env, observations=10_000)
    assert agreement.observations >= 10_000
    assert agreement.equal == agreement.observations
    assert agreement.difference < 1e-5 * max(agreement.magnitude, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_does_with_pytorch(make: Callable, kind: str) -> None:
    made = make(kind)
    agreement = compare_actions(made.model, make_backend("torch", made.team()), made.env, observations=2_000)
    assert agreement.equal == agreement.observations
    assert agreement.difference < 1e-5 * max(agreement.magnitude, 1.0)


@pytest.mark.parametrize("kind", ["2:4", "2:4 feedforward"])
def test_a_program_of_pytorch_acts_alike(make: Callable, tmp_path: Path, kind: str) -> None:
    made = make(kind)
    team = made.team()
    write_program(tmp_path / "team.pt2", team)
    program = ProgramBackend(tmp_path / "team.pt2", team.spec)
    agreement = compare_actions(made.model, program, made.env, observations=2_000)
    assert agreement.equal == agreement.observations
    with pytest.raises(ConfigError, match=r"is a program of PyTorch's, expected .safetensors or .onnx"):
        load_agent(tmp_path / "team.pt2")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", SHARE_EQUAL)
def test_fewer_bits_act_nearly_alike(make: Callable, tmp_path: Path, dtype: str, form: str) -> None:
    made = make("2:4")
    agent = load(tmp_path, made.team(dtype), form)
    agreement = compare_actions(made.model, agent.backend, made.env, observations=10_000)
    assert agreement.equal / agreement.observations >= SHARE_EQUAL[dtype]
    assert 0 < agreement.difference < 0.05 * max(agreement.magnitude, 1.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["2:4", "2:4 feedforward", "kaleidoscope", "independent"])
def test_owners_that_agents_share_and_actions_that_cant_be_taken(
    make: Callable, tmp_path: Path, kind: str, form: str
) -> None:
    made = make(kind, "serve_roles", change=False)
    team = made.team()
    assert team.spec.owners == (2, 0, 2)
    agreement = compare_actions(made.model, load(tmp_path, team, form).backend, made.env, observations=2_000)
    assert agreement.equal == agreement.observations


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("kind", ["2:4", "kaleidoscope", "independent"])
def test_owners_that_change(make: Callable, kind: str, backend: str) -> None:
    made = make(kind, "serve_roles", change=True)
    team = made.team()
    assert team.spec.owners is None
    agreement = compare_actions(made.model, make_backend(backend, team), made.env, observations=2_000)
    assert agreement.equal == agreement.observations


def test_owners_that_change_are_needed_and_no_graph_has_them(make: Callable, tmp_path: Path) -> None:
    team = make("2:4", "serve_roles", change=True).team()
    agent = load(tmp_path, team, "packed")
    obs = np.zeros((2, 3, 7), np.float32)
    with pytest.raises(ConfigError, match=r"owners: got none, expected \[2, 3\]"):
        agent.act(obs, agent.initial_state(2))
    first, _ = agent.values(obs, agent.initial_state(2), owners=np.array([[0, 0, 0], [1, 1, 1]]))
    assert (first[0] != first[1]).any()
    with pytest.raises(ConfigError, match="the mask owners of serve_roles change between episodes"):
        write_onnx(tmp_path / "team.onnx", team)


def test_rows_of_a_batch_know_nothing_of_each_other(make: Callable, tmp_path: Path) -> None:
    agent = load(tmp_path, make("2:4").team(), "packed")
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((5, 2, 12)).astype(np.float32)
    state = rng.standard_normal((5, 2, 8)).astype(np.float32)
    together, after = agent.values(obs, state)
    for row in range(5):
        alone, its_after = agent.values(obs[row : row + 1], state[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)
        np.testing.assert_allclose(its_after[0], after[row], atol=1e-6)
    changed = obs.copy()
    changed[:, 0] += 1.0
    other, _ = agent.values(changed, state)
    np.testing.assert_allclose(other[:, 1], together[:, 1], atol=1e-6)
    assert (np.abs(other[:, 0] - together[:, 0]) > 1e-4).any()


def two_actions(values: list[float]) -> ServedAgent:
    """Returns an agent whose values are what it is told, whatever it sees."""
    spec = Spec("QMix", "any", ("a",), 1, len(values), 1, (0,), False, False, 0, "float32", "0")
    weight = Numbers.of("w", np.zeros((1, len(values), 1), np.float32), "float32")
    team = Team(spec, (Linear("fc1", False, weight, np.array([values], np.float32)),))
    return ServedAgent(spec, make_backend("numpy", team))


def test_the_first_of_equals_and_only_what_is_available() -> None:
    agent = two_actions([1.0, 3.0, 3.0, 2.0])
    obs, state = np.zeros((1, 1, 1)), np.zeros((1, 1, 0))
    assert agent.act(obs, state)[0].tolist() == [[1]]
    assert agent.act(obs, state, [[[1, 0, 1, 1]]])[0].tolist() == [[2]]
    assert agent.act(obs, state, [[[True, False, False, True]]])[0].tolist() == [[3]]
    assert torch.tensor([1.0, 3.0, 3.0, 2.0]).argmax().item() == 1  # as in training


GOOD: dict[str, Any] = {
    "obs": np.zeros((2, 2, 12), np.float32),
    "state": np.zeros((2, 2, 8), np.float32),
    "available": np.ones((2, 2, 5), bool),
    "owners": np.array([[0, 1], [0, 1]]),
}


def spoilt(name: str, place: tuple[int, ...], value: float, dtype: Any = None) -> np.ndarray:
    array = GOOD[name].astype(dtype or GOOD[name].dtype)
    array[place] = value
    return array


BAD: list[tuple[str, Any, str]] = [
    ("obs", np.zeros((2, 12)), "obs: got shape [2, 12], expected [B, 2, 12] of mpe_simple_spread"),
    ("obs", np.zeros((2, 2, 18)), "obs: got shape [2, 2, 18], expected [B, 2, 12]"),
    ("obs", np.zeros((0, 2, 12)), "obs: got shape [0, 2, 12]"),
    ("obs", np.full((2, 2, 12), "a"), "obs: got str"),
    ("obs", [[1.0], [1.0, 2.0]], "obs: got a list whose parts have different lengths"),
    ("obs", None, "obs: got object, expected numbers"),
    ("obs", np.zeros((2, 2, 12), complex), "obs: got complex128, expected numbers"),
    ("obs", spoilt("obs", (1, 0, 3), np.nan), "obs: got nan at [1, 0, 3], expected finite numbers"),
    ("obs", spoilt("obs", (0, 1, 0), 1e300, np.float64), "obs: got inf at [0, 1, 0]"),
    ("state", np.zeros((1, 2, 8)), "state: got shape [1, 2, 8], expected [2, 2, 8]"),
    ("state", spoilt("state", (0, 0, 0), -np.inf), "state: got -inf at [0, 0, 0]"),
    ("available", np.ones((2, 5), bool), "available: got shape [2, 5], expected [2, 2, 5]"),
    ("available", spoilt("available", (1, 1), 0), "available: got no action for agent 1 of team 1"),
    ("available", np.full((2, 2, 5), 0.5), "available: got float64, expected true and false, or 1 and 0"),
    ("owners", np.array([[0, 1]]), "owners: got shape [1, 2], expected [2, 2]"),
    ("owners", np.array([[0, 1], [0, 2]]), "owners: got 0 to 2, expected 0 to 1"),
    ("owners", np.array([[0.0, 1.0], [0.0, 1.0]]), "owners: got float64, expected whole numbers"),
]


@pytest.mark.parametrize(("name", "value", "said"), BAD, ids=[said for _, _, said in BAD])
def test_bad_arguments_are_named(make: Callable, tmp_path: Path, name: str, value: Any, said: str) -> None:
    agent = load(tmp_path, make("2:4").team(), "packed")
    agent.act(**GOOD)
    with pytest.raises(ConfigError) as refused:
        agent.act(**{**GOOD, name: value})
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


def test_unknown_backends_and_batches(make: Callable, tmp_path: Path) -> None:
    agent = load(tmp_path, make("2:4").team(), "packed")
    with pytest.raises(ConfigError, match=r"batch: got 0, expected a whole number of at least 1"):
        agent.initial_state(0)
    with pytest.raises(ConfigError, match=r"backend: got 'pytorch', expected one of .*did you mean 'torch'"):
        load_agent(tmp_path / "team.safetensors", backend="pytorch")
    write_onnx(tmp_path / "team.onnx", make("2:4").team())
    with pytest.raises(ConfigError, match=r"backend of an .onnx file: got 'numpy', expected one of 'onnxruntime'"):
        load_agent(tmp_path / "team.onnx", backend="numpy")
