"""Compiles this package's C with the compiler of the machine, where there is one, and calls it.

What it replaces are many small PyTorch operations, which take longer to call than to compute. Compiling takes a
second, once for each machine.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from k24_rllib.cache_directory import cache_directory, processor

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared")
TIMEOUT_S = 60


@cache
def library() -> ctypes.CDLL | None:
    """Returns the compiled kernels; None without a compiler, or if anything goes wrong: PyTorch does it all then."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError, RuntimeError):  # the last where nobody knows of a home directory
        return None


def call(
    kernels: ctypes.CDLL, name: str, sizes: Sequence[int], *tensors: Tensor | None, offsets: Sequence[int] = ()
) -> None:
    """Calls a kernel, which takes whole numbers first and then pointers.

    Args:
        kernels: What `library` returned.
        name: Of the function.
        sizes: Its whole numbers.
        tensors: Its arrays; None is a null pointer. What it writes to must be contiguous, the rest is made so.
        offsets: Elements to skip at the start of each of the first tensors.
    """
    dense = [  # alive until the call is over
        tensor if tensor is None or tensor.is_contiguous() else tensor.contiguous() for tensor in tensors
    ]
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in dense]
    for i, offset in enumerate(offsets):
        if offset and (tensor := dense[i]) is not None:
            addresses[i] = tensor.data_ptr() + offset * tensor.element_size()
    _function(kernels, name, len(sizes), len(tensors))(*sizes, *addresses)


@cache
def _function(kernels: ctypes.CDLL, name: str, numbers: int, arrays: int) -> Callable[..., None]:
    """Returns a kernel that takes so many whole numbers and pointers as Python's own."""
    function = getattr(kernels, name)
    function.argtypes = [ctypes.c_size_t] * numbers + [ctypes.c_void_p] * arrays
    function.restype = None
    return function


def on_cpu(tensor: Tensor) -> bool:
    """Returns whether kernels can take a tensor: they know float32 in main memory."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _compiled(compiler: str) -> Path:
    """Returns the shared library, compiled unless that was done before for these sources, compiler and processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT_S, check=True).stdout
    sources = [path.read_bytes() for path in SOURCES]
    key = hashlib.sha256(b"\0".join([*sources, version, processor(), " ".join(FLAGS).encode()])).hexdigest()[:16]
    directory = cache_directory()
    compiled = directory / f"kernels-{key}.so"
    if compiled.exists():
        return compiled
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:  # workers may compile at the same time
        fresh = Path(scratch) / "kernels.so"
        units = [str(path) for path in SOURCES if path.suffix == ".c"]
        command = [compiler, *FLAGS, *units, "-o", str(fresh), "-lm"]
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
        os.replace(fresh, compiled)
    return compiled
