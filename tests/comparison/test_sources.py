"""Comparing as a notebook does: sources in, comparisons out, and tables, figures and files of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from trials import line

from k24_rllib.checks import ConfigError
from k24_rllib.comparison import CompareOptions, compare, draw, make_figure, make_tables, write_points

MakeTrial = Callable[..., Path]


@pytest.fixture
def sources(make_trial: MakeTrial, tmp_path: Path) -> list[str]:
    """Two methods, of two seeds and of one, the first with a metric."""
    for seed in (0, 1):
        lines = [line(steps, -50.0 - seed, {"agreement": 0.1 * steps}) for steps in (100, 200)]
        make_trial(lines, f"masked/K_{seed}", seed=seed)
    make_trial([line(steps, -40.0) for steps in (100, 200)], "dense/QMix_0")
    return [f"masked={tmp_path / 'masked'}", str(tmp_path / "dense")]


def test_runs_become_a_comparison_a_table_and_a_figure(sources: list[str], tmp_path: Path) -> None:
    comparisons = compare(sources, CompareOptions(metrics=["agreement"]))
    (comparison,) = comparisons
    assert [(method.name, len(method.runs)) for method in comparison.methods] == [("masked", 2), ("dense", 1)]
    (table,) = make_tables(comparisons, metrics=["agreement"])
    assert [row.greedy_return.value for row in table.rows] == [-50.5, -40.0]
    assert [axis.get_ylabel().splitlines()[0] for axis in make_figure(comparisons, ["agreement"]).axes[1:]] == [
        "agreement"
    ]
    draw(comparisons, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    write_points(tmp_path / "points.csv", comparisons, [table])
    read_again = make_tables(compare([str(tmp_path / "points.csv")]))
    assert [row.returns for row in read_again[0].rows] == [row.returns for row in table.rows]


def test_what_is_wrong_is_named(sources: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory"):
        compare([*sources, str(tmp_path / "dens")])
    with pytest.raises(ConfigError, match="did you mean 'agreement'"):
        compare(sources, CompareOptions(metrics=["agrement"]))
    with pytest.raises(ConfigError, match="--seeds: is for YAML files"):
        compare(sources, CompareOptions(seeds="3"))
