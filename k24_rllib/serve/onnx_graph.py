"""A team's whole step as an ONNX graph, which any runtime of ONNX executes without this package or PyTorch.

Inputs are `obs [B, N, O]`, `state [B, N, S]` (left out where `S` is 0) and `available [B, N, U]`, outputs
`actions [B, N]`, `next_state [B, N, S]` (as `state`) and `values [B, N, U]`. Weights are kept as in a packed file,
patterns as a byte each, and a runtime makes each owner's weights of them once, when it loads the graph.

Shapes: see `team.py`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from k24_rllib.serve.backend import UNAVAILABLE, need
from k24_rllib.serve.container import FORMAT, FORMAT_VERSION, NO_DIGEST, write_whole
from k24_rllib.serve.files import spec_text
from k24_rllib.serve.number_types import Numbers
from k24_rllib.serve.pattern_bits import pattern_table
from k24_rllib.serve.team import Cell, Linear, Stage, Team

OPSET = 17
IR_VERSION = 8
"""Both old enough for the runtimes of some years, and new enough for bfloat16."""
INSTALL = "pip install 'k24_rllib[onnx]'"
DIGEST_KEY = "k24_rllib.digest"


def write_onnx(path: Path | str, team: Team) -> int:
    """Writes a team's step as an ONNX file and returns its bytes.

    Args:
        path: The file.
        team: The team, whose owners are the same in all episodes.

    Raises:
        ConfigError: where the package `onnx` is missing.
    """
    model = _Graph(team).model()
    content: bytes = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest().encode()
    content = content.replace(digest_field(NO_DIGEST.encode()), digest_field(digest), 1)
    write_whole(Path(path), content)
    return len(content)


def digest_field(digest: bytes) -> bytes:
    """Returns the digest as it stands in a file, an entry of the metadata: key and value with their lengths."""
    key = DIGEST_KEY.encode()
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(NO_DIGEST)]) + digest


class _Graph:
    """Nodes and constants of a team's step; a method returns the name of what it adds."""

    def __init__(self, team: Team) -> None:
        self._onnx = need("onnx", "format: onnx", INSTALL)
        self._team, self._owners = team, team.fixed_owners()
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def model(self) -> Any:
        """Returns the whole model."""
        helper, types, spec = self._onnx.helper, self._onnx.TensorProto, self._team.spec
        actions, state, values = self._step()
        sizes = {"obs": spec.obs_dim, "state": spec.state_size, "available": spec.num_actions}
        sizes |= {"values": spec.num_actions, "next_state": spec.state_size}

        def array(name: str, kind: int) -> Any:
            shape = ["B", spec.num_agents] + ([sizes[name]] if name in sizes else [])
            return helper.make_tensor_value_info(name, kind, shape)

        inputs, outputs = [array("obs", types.FLOAT)], [array(actions, types.INT64)]
        if state is not None:
            inputs.append(array("state", types.FLOAT))
            outputs.append(array(state, types.FLOAT))
        inputs.append(array("available", types.BOOL))
        outputs.append(array(values, types.FLOAT))
        graph = helper.make_graph(self._nodes, "team", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="k24_rllib")
        model.ir_version = IR_VERSION
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "team": spec_text(spec), DIGEST_KEY: NO_DIGEST}
        helper.set_model_props(model, about)
        self._onnx.checker.check_model(model)
        return model

    def _step(self) -> tuple[str, str | None, str]:
        """Adds the whole step, and returns the names of actions, the next state (if there is one) and values."""
        spec, memory, after = self._team.spec, None, []
        if spec.state_size:
            state = self._node("Transpose", "state", perm=[1, 0, 2])  # [N, B, S]
            memory = self._slice(state, 0, spec.memory)
        x, place = self._inputs(), 0
        for stage in self._team.stages:
            if isinstance(stage, Linear):
                x = self._layer(stage, x)
            else:
                assert memory is not None
                x = self._cell(stage, x, self._slice(memory, place, place + stage.out_features))
                place += stage.out_features
                after.append(x)
        values = self._node("Transpose", x, perm=[1, 0, 2], name="values")
        masked = self._node("Where", "available", values, self._constant("unavailable", UNAVAILABLE))
        actions = self._node("ArgMax", masked, axis=-1, keepdims=0, name="actions")
        return actions, self._next_state(after, actions), values

    def _inputs(self) -> str:
        """Adds what the network sees, `[N, B, I]`."""
        spec = self._team.spec
        parts = [self._node("Transpose", "obs", perm=[1, 0, 2])]
        if spec.agent_id:
            batch = self._node("Shape", "obs", start=0, end=1)
            agents = self._constant("agents", np.array([spec.num_agents], np.int64))
            shape = self._node("Concat", agents, batch, agents, axis=0)
            identity = self._constant("identity", np.eye(spec.num_agents, dtype=np.float32)[:, None])
            parts.append(self._node("Expand", identity, shape))
        if spec.last_action:
            state = self._node("Transpose", "state", perm=[1, 0, 2])
            parts.append(self._slice(state, spec.memory, spec.state_size))
        return parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=2)

    def _next_state(self, after: list[str], actions: str) -> str | None:
        """Adds what agents remember, `[B, N, S]`."""
        spec = self._team.spec
        parts = [self._node("Transpose", memory, perm=[1, 0, 2]) for memory in after]
        if spec.last_action:
            depth = self._constant("depth", np.array(spec.num_actions, np.int64))
            parts.append(self._node("OneHot", actions, depth, self._constant("off_on", np.array([0, 1], np.float32))))
        return self._node("Concat", *parts, axis=2, name="next_state") if parts else None

    def _layer(self, layer: Linear, x: str) -> str:
        weights = self._numbers(f"{layer.name}.weight", layer.weight)
        masks = layer.masks()
        if masks is not None:
            weights = self._node("Mul", weights, self._masks(layer))
        if layer.gain is not None:
            weights = self._node("Mul", weights, self._constant(f"{layer.name}.gain", layer.gain[..., None]))
        bias = None if layer.bias is None else (f"{layer.name}.bias", layer.bias)
        y = self._product(x, weights, layer.num_weights, bias)
        return self._node("Relu", y) if layer.relu else y

    def _masks(self, layer: Linear) -> str:
        """Adds each owner's masks of 0 and 1, `[R, J, I]`."""
        if layer.patterns is None or layer.ratio is None:
            kept = self._constant(f"{layer.name}.kept", layer.kept)
            return self._node("Cast", kept, to=self._onnx.TensorProto.FLOAT)
        n, m = layer.ratio
        indices = self._constant(f"{layer.name}.patterns", layer.patterns)
        indices = self._node("Cast", indices, to=self._onnx.TensorProto.INT32)
        table = self._constant(f"table_{n}_{m}", pattern_table(n, m).astype(np.float32))
        groups = self._node("Gather", table, indices, axis=0)  # [R, J, G, m]
        shape = np.array([len(layer.patterns), layer.out_features, -1], np.int64)
        padded = self._node("Reshape", groups, self._constant(f"{layer.name}.shape", shape))
        return self._slice(padded, 0, layer.in_features)

    def _cell(self, cell: Stage, x: str, before: str) -> str:
        """Adds a GRU: `r, z = sigmoid(i_rz + g_rz)`, `n = tanh(i_n + r g_n)`, `h' = n + z (h - n)`."""
        assert isinstance(cell, Cell)
        size, products = cell.out_features, []
        for given, matrix, name in ((x, cell.w_ih, "ih"), (before, cell.w_hh, "hh")):
            weights = self._numbers(f"{cell.name}.w_{name}", matrix)
            bias = (f"{cell.name}.b_{name}", getattr(cell, f"b_{name}"))
            products.append(self._product(given, weights, cell.num_distinct, bias))
        gates, share = products
        rz = [self._slice(product, 0, 2 * size) for product in products]
        squashed = self._node("Sigmoid", self._node("Add", *rz))
        r, z = self._slice(squashed, 0, size), self._slice(squashed, size, 2 * size)
        reset = self._node("Mul", r, self._slice(share, 2 * size, 3 * size))
        new = self._node("Tanh", self._node("Add", self._slice(gates, 2 * size, 3 * size), reset))
        return self._node("Add", new, self._node("Mul", z, self._node("Sub", before, new)))

    def _product(self, x: str, weights: str, distinct: int, bias: tuple[str, Any] | None) -> str:
        """Adds `x [N, B, I] @ weights [R, J, I].T + bias`."""
        transposed = self._node("Transpose", self._of_agents(weights, distinct), perm=[0, 2, 1])
        y = self._node("MatMul", x, transposed)
        if bias is None:
            return y
        name, values = bias
        biases = self._constant(name, values[:, None])  # [K', 1, J]
        return self._node("Add", y, self._of_agents(biases, len(values)))

    def _of_agents(self, of_owners: str, distinct: int) -> str:
        """Returns what each agent has of `[K, ...]`: its owner's, or the one that all have."""
        if distinct == 1 or (distinct == len(self._owners) and (self._owners == np.arange(distinct)).all()):
            return of_owners
        return self._node("Gather", of_owners, self._constant("owners", self._owners.astype(np.int64)), axis=0)

    def _numbers(self, name: str, numbers: Numbers) -> str:
        """Adds a matrix as it is kept, and what makes float32 of it."""
        if numbers.dtype == "bfloat16":
            kind = self._onnx.TensorProto.BFLOAT16
            raw = np.ascontiguousarray(numbers.stored).tobytes()
            self._constants[name] = self._onnx.helper.make_tensor(name, kind, numbers.shape, raw, raw=True)
            kept = name
        else:
            kept = self._constant(name, numbers.stored)
        if numbers.dtype == "float32":
            return kept
        values = self._node("Cast", kept, to=self._onnx.TensorProto.FLOAT)
        return (
            values
            if numbers.scale is None
            else self._node("Mul", values, self._constant(f"{name}.scale", numbers.scale))
        )

    def _slice(self, x: str, start: int, end: int) -> str:
        """Adds numbers `start` to `end` of the last dimension, of three."""
        bounds = [self._constant(f"at_{place}", np.array([place], np.int64)) for place in (start, end, 2)]
        return self._node("Slice", x, *bounds)

    def _constant(self, name: str, values: Any) -> str:
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(
                np.ascontiguousarray(values).reshape(np.shape(values)), name
            )
        return name

    def _node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output
