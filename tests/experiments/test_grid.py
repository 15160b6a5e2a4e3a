"""Grids: which configurations `grid_search` stands for."""

from __future__ import annotations

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.grid import MAX_POINTS_CHECKED, grid_points, grid_size


def test_points_are_the_cross_product_at_any_depth() -> None:
    config = {"lr": {"grid_search": [1, 2]}, "env_config": {"N": {"grid_search": [3, 4]}, "k": 0}, "seed": 7}
    points = list(grid_points(config))
    assert len(points) == grid_size(config) == 4
    assert {(p["lr"], p["env_config"]["N"]) for p in points} == {(1, 3), (1, 4), (2, 3), (2, 4)}
    assert all(p["seed"] == 7 and p["env_config"]["k"] == 0 for p in points)
    assert config["lr"] == {"grid_search": [1, 2]}


def test_without_a_grid_there_is_one_point() -> None:
    assert list(grid_points({"lr": 1})) == [{"lr": 1}]


def test_of_a_huge_grid_every_value_is_seen() -> None:
    config = {key: {"grid_search": list(range(20))} for key in "abc"}
    points = list(grid_points(config))
    assert len(points) <= MAX_POINTS_CHECKED
    for key in "abc":
        assert {point[key] for point in points} == set(range(20))


@pytest.mark.parametrize("grid", [{"grid_search": []}, {"grid_search": 3}, {"grid_search": [1], "lr": 2}])
def test_a_grid_must_be_a_list_by_itself(grid: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"env_config\.N: got .*expected grid_search"):
        list(grid_points({"env_config": {"N": grid}}))
