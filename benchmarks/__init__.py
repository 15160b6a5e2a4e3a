"""Timings beside the arithmetic limit, the dense baseline and `mpe2`: what `rllib bench` runs (docs/performance.md).

A module for each thing measured, which returns a `Section`; `timing` measures in turn, `report` prints and writes.
"""
