"""Compiled C for the CPU, in place of many small PyTorch operations; everything works without it, more slowly."""

from k24_rllib.kernels import gru, patterns
from k24_rllib.kernels.library import library, on_cpu

__all__ = ["gru", "library", "on_cpu", "patterns"]
