"""Settings of a learner's process that make small networks fast on the CPU."""

from __future__ import annotations

import ctypes
import sys

import torch

from k24_rllib.kernels import matmul_precision

MATMUL_PRECISIONS = ("auto", "highest", "high", "medium")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30
_LARGEST_HEAP_BLOCK = 1 << 25  # the most that glibc allows
_EXACT_ERROR = 1e-6


def keep_freed_memory() -> None:
    """Lets glibc keep up to 1 GiB of freed memory instead of giving it back to the kernel after every update.

    An update frees and asks again for the same few dozen MiB; given back, each page faults again. Does nothing where
    the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def set_matmul_precision(precision: str, device: torch.device) -> str:
    """Sets PyTorch's precision of float32 products.

    Args:
        precision: One of `MATMUL_PRECISIONS`. `auto` stays in float32, but takes the faster library: on a CPU PyTorch
            asks MKL under `highest`, and oneDNN under `medium`, which is free to round to bfloat16 there and, on a
            CPU without such units, does not. There oneDNN uses AVX-512 where MKL may not, so `auto` looks at one
            product and takes `medium` if nothing was rounded. Elsewhere `auto` is `highest`.
        device: Where the learner is.

    Returns:
        The precision set.
    """
    chosen = precision
    if precision == "auto":
        chosen = "medium" if device.type == "cpu" and _onednn_keeps_float32() else "highest"
    torch.set_float32_matmul_precision(chosen)
    return chosen


def _onednn_keeps_float32() -> bool:
    """Returns whether products under `medium` come out as precise as float32, by trying one."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    with matmul_precision("medium"):
        error = (left @ right).double().sub_(exact).norm() / exact.norm()
    return float(error) < _EXACT_ERROR
