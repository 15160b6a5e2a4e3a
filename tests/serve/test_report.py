"""What `rllib inspect` computes, against the slow way to say it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from k24_rllib.serve import write_team
from k24_rllib.serve.report import dense_bytes, density, pattern_shares, report_lines, similarity


def test_alike_is_the_share_of_groups_with_one_pattern(make: Callable) -> None:
    for layer in make("2:4").team().layers():
        masks = layer.masks()
        owners, rows, columns = masks.shape
        same = [
            (masks[0, row, start : start + 4] == masks[1, row, start : start + 4]).all()
            for row in range(rows)
            for start in range(0, columns, 4)
        ]
        assert owners == 2
        assert similarity(layer) == pytest.approx(np.mean(same))


def test_alike_of_pruned_layers_is_what_both_keep_of_what_either_does(make: Callable) -> None:
    for layer in make("kaleidoscope").team().layers():
        first, second = ({tuple(place) for place in np.argwhere(mask)} for mask in layer.masks())
        assert similarity(layer) == pytest.approx(len(first & second) / len(first | second))
        assert density(layer) == pytest.approx((len(first) + len(second)) / (2 * layer.masks()[0].size))


def test_owners_that_have_the_same_are_not_compared(make: Callable) -> None:
    for kind in ("dense", "1:4 one mask", "independent"):
        assert all(similarity(layer) is None for layer in make(kind).team().layers())


def test_shares_of_patterns(make: Callable) -> None:
    layer = make("2:4").team().layers()[1]
    shares = pattern_shares(layer)
    assert list(shares) == ["1100", "1010", "1001", "0110", "0101", "0011"]
    groups = layer.masks().reshape(-1, 4)
    for pattern, share in shares.items():
        assert share == pytest.approx((groups == [kept == "1" for kept in pattern]).all(1).mean())


def test_independent_networks_are_dense_networks(make: Callable, tmp_path: Path) -> None:
    team = make("independent").team("float16")
    arrays = sum(2 * numbers.stored.size for layer in team.layers() for numbers in [layer.weight])
    arrays += sum(4 * layer.bias.size for layer in team.layers())
    arrays += sum(2 * (cell.w_ih.stored.size + cell.w_hh.stored.size) for cell in team.cells())
    arrays += sum(4 * (cell.b_ih.size + cell.b_hh.size) for cell in team.cells())
    assert dense_bytes(team) == arrays
    write_team(tmp_path / "team.safetensors", team)
    assert any(
        line.endswith(f"{arrays:,} bytes: 1.000 of them") for line in report_lines(tmp_path / "team.safetensors")
    )


def test_density_is_the_same_in_a_plain_file(make: Callable, tmp_path: Path) -> None:
    told = {}
    for form in ("packed", "plain"):
        write_team(tmp_path / f"{form}.safetensors", make("2:4").team(), form)
        lines = [line for line in report_lines(tmp_path / f"{form}.safetensors") if line.startswith("fc")]
        told[form] = [re.findall(r" ([01]\.\d{3}) ", line)[0] for line in lines[:4]]
    assert told["packed"] == told["plain"] == ["0.571", "0.500", "0.500", "0.500"]
