"""An ONNX file is a graph that any runtime executes, with what is known of the team, and refused once it is damaged."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.serve import DTYPES, load_agent
from k24_rllib.serve.onnx_graph import digest_field, write_onnx


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_graph_alone_acts(make: Callable, tmp_path: Path, dtype: str) -> None:
    team = make("2:4").team(dtype)
    write_onnx(tmp_path / "team.onnx", team)
    onnx.checker.check_model(str(tmp_path / "team.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "team.onnx")
    assert [given.name for given in session.get_inputs()] == ["obs", "state", "available"]
    obs = np.random.default_rng(0).standard_normal((7, 2, 12)).astype(np.float32)
    available = np.ones((7, 2, 5), bool)
    available[:, :, 0] = False
    given = {"obs": obs, "state": np.zeros((7, 2, 8), np.float32), "available": available}
    actions, state = session.run(["actions", "next_state"], given)
    agent = load_agent(tmp_path / "team.onnx")
    ours, after = agent.act(obs, agent.initial_state(7), available)
    np.testing.assert_array_equal(actions, ours)
    np.testing.assert_array_equal(state, after)
    assert actions.min() > 0


def test_shared_weights_are_in_it_once(make: Callable, tmp_path: Path) -> None:
    write_onnx(tmp_path / "team.onnx", make("2:4").team())
    shapes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(tmp_path / "team.onnx").graph.initializer}
    assert shapes["fc2.weight"] == (1, 8, 8)
    assert shapes["fc2.patterns"] == (2, 8, 2)


def test_damage(make: Callable, tmp_path: Path) -> None:
    path = tmp_path / "team.onnx"
    write_onnx(path, make("2:4").team())
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        content = bytearray(whole)
        bit = rng.randrange(8 * len(whole))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"is damaged|or a truncated one"):
            load_agent(path)
    for _ in range(50):
        path.write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(ConfigError, match=r"is damaged|or a truncated one"):
            load_agent(path)


def test_another_programs_graph(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out])), tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match="is no team of k24_rllib"):
        load_agent(tmp_path / "other.onnx")


def test_the_digest_is_found_where_protobuf_puts_it() -> None:
    model = onnx.ModelProto()
    model.metadata_props.add(key="k24_rllib.digest", value="0" * 64)
    assert digest_field(b"0" * 64) in model.SerializeToString()
