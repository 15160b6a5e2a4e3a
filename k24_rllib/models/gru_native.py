"""Compiles `gru.c` with the C compiler of the machine, where there is one, and calls it.

A compiled recurrence takes a third of the time of PyTorch's operations, because those that a step consists of take
less time to compute than to call. Compiling takes half a second, once for each machine.

Shapes: as in `gru.py`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("gru.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared")
LANES, ROWS = 16, 6  # as in gru.c
TIMEOUT_S = 60


@cache
def gru_library() -> ctypes.CDLL | None:
    """Returns the compiled recurrence; None without a compiler, or if anything goes wrong: PyTorch does it then."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def supports(x: Tensor, hidden_size: int) -> bool:
    """Returns whether the compiled recurrence can take inputs like `x` at this hidden size."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and hidden_size % LANES == 0


def forward(
    library: ctypes.CDLL, gates: Tensor, hidden: Tensor, w_hh: Tensor, b_hh: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the states `[T + 1, R, H]`, the first of them `hidden`, and what `backward` needs if `keep` is set.

    Args:
        library: What `gru_library` returned.
        gates: The inputs' share of the gates, `[T, R, 3H]`.
        hidden: `[R, H]`.
        w_hh: `[3H, H]`.
        b_hh: `[3H]`.
        keep: Whether to keep `r` and `z` `[T, R, 2H]`, the state's share of the new gate, and `n`, `[T, R, H]` each.
    """
    (steps, rows, _), size = gates.shape, hidden.shape[1]
    states = gates.new_empty(steps + 1, rows, size)
    states[0] = hidden
    length = steps if keep else 0
    squashed, share, new = (gates.new_empty(length, rows, width * size) for width in (2, 1, 1))
    kept = [squashed, share, new] if keep else [None, None, None]
    scratch = gates.new_empty(ROWS, 3 * size)
    _call(library.gru_forward, steps, rows, size, gates, w_hh.T, b_hh, states, *kept, scratch)
    return states, squashed, share, new


def backward(
    library: ctypes.CDLL,
    grad_states: Tensor,
    w_hh: Tensor,
    states: Tensor,
    squashed: Tensor,
    share: Tensor,
    new: Tensor,
) -> Tensor:
    """Returns the gradients `[T, R, 4H]` by the gates: reset, update, the state's share of new, the inputs' share."""
    steps, rows, size = new.shape
    grads = new.new_empty(steps, rows, 4 * size)
    scratch = new.new_empty(ROWS, size)
    _call(library.gru_backward, steps, rows, size, grad_states, w_hh, states, squashed, share, new, grads, scratch)
    return grads


def _call(function: Callable[..., Any], steps: int, rows: int, size: int, *tensors: Tensor | None) -> None:
    dense = [None if tensor is None else tensor.contiguous() for tensor in tensors]  # alive until the call is over
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in dense]
    function(*map(ctypes.c_size_t, (steps, rows, size)), *pointers)


def _compiled(compiler: str) -> Path:
    """Returns the shared library, compiled unless that was done before for this source, compiler and processor."""
    source = SOURCE.read_bytes()
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT_S, check=True).stdout
    key = hashlib.sha256(b"\0".join([source, version, _processor(), " ".join(FLAGS).encode()])).hexdigest()[:16]
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k24_rllib"
    library = directory / f"gru-{key}.so"
    if library.exists():
        return library
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:  # workers may compile at the same time
        fresh = Path(scratch) / "gru.so"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(fresh)]
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
        os.replace(fresh, library)
    return library


def _processor() -> bytes:
    """Returns what tells one kind of processor from another: what is compiled for one may not run on the other."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    told = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(told[:2]).encode()
