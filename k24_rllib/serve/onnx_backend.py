"""A team's ONNX file in onnxruntime, without PyTorch; see `onnx_graph.py` for what the graph takes and gives."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError
from k24_rllib.serve.backend import Backend, Floats, Outcome, need
from k24_rllib.serve.container import NO_DIGEST, check_format, read_bytes
from k24_rllib.serve.files import read_spec
from k24_rllib.serve.onnx_graph import DIGEST_KEY, INSTALL, digest_field
from k24_rllib.serve.team import Spec

_FIELD = re.compile(re.escape(digest_field(b"")) + rb"([0-9a-f]{64})")


def open_onnx(path: Path) -> tuple[Any, Spec]:
    """Returns a session of a team's ONNX file, which is as it was written, and what it says of the team.

    Raises:
        ConfigError: for a file that is damaged, of another kind or version, or where onnxruntime is missing.
    """
    runtime = need("onnxruntime", f"{path}", INSTALL)
    content = read_bytes(path)
    found = _FIELD.search(content)
    if found is None:
        raise ConfigError(f"{path}: has no {DIGEST_KEY}: is no team of k24_rllib, or a truncated one")
    digest = found[1]
    blank = content.replace(digest_field(digest), digest_field(NO_DIGEST.encode()), 1)
    if hashlib.sha256(blank).hexdigest().encode() != digest:
        raise ConfigError(f"{path}: is damaged (its digest is not its content's)")
    session = _session(runtime, path, content)
    about = session.get_modelmeta().custom_metadata_map
    check_format(path, about)
    return session, read_spec(path, about)


def _session(runtime: Any, path: Path, content: bytes) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a team's products are too small to share out
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common class
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"{path}: onnxruntime can't load it ({reason})") from error


class OnnxBackend(Backend):
    """Executes a team's ONNX graph on the CPU.

    Args:
        session: What `open_onnx` returned.
        spec: What the file says of the team.
    """

    def __init__(self, session: Any, spec: Spec) -> None:
        self._session, self._spec = session, spec
        self._outputs = ["actions", "values"] + ["next_state"] * bool(spec.state_size)

    def step(
        self,
        obs: Floats,
        state: Floats,
        available: NDArray[np.bool_] | None = None,
        owners: NDArray[np.int64] | None = None,
    ) -> Outcome:
        """Acts once; see `Backend.step`."""
        if owners is not None and self._spec.owners is not None and (owners != self._spec.owners).any():
            raise ConfigError("owners: got others than the team's, which an ONNX graph has built in")
        if available is None:
            available = np.ones((*obs.shape[:2], self._spec.num_actions), bool)
        given = {"obs": obs, "available": available}
        if self._spec.state_size:
            given["state"] = state
        actions, values, *after = self._session.run(self._outputs, given)
        return Outcome(actions, after[0] if after else state, values)
