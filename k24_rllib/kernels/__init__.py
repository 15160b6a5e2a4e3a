"""Compiled C for the CPU, in place of many small PyTorch operations; everything works without it, more slowly."""

from k24_rllib.kernels import gru, patterns
from k24_rllib.kernels.library import library, on_cpu
from k24_rllib.kernels.precision import matmul_precision

__all__ = ["gru", "library", "matmul_precision", "on_cpu", "patterns"]
