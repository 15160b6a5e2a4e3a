"""`grid_search: [...]` inside a configuration: which points it means, so that each can be checked before Ray starts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from k24_rllib.checks import ConfigError

GRID_KEY = "grid_search"
MAX_POINTS_CHECKED = 128


def grid_axes(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], list[Any]]:
    """Returns the values of every `grid_search` in `config`, by the path of keys that leads to it.

    Raises:
        ConfigError: if a `grid_search` isn't a list of at least one value, or has keys beside it.
    """
    axes: dict[tuple[str, ...], list[Any]] = {}
    for key, value in config.items():
        if not isinstance(value, Mapping):
            continue
        here = (*path, str(key))
        if GRID_KEY in value:
            choices = value[GRID_KEY]
            if not isinstance(choices, list) or not choices or len(value) > 1:
                raise ConfigError(
                    f"{'.'.join(here)}: got {dict(value)!r}, expected grid_search: [a, b, ...] and nothing beside it"
                )
            axes[here] = choices
        else:
            axes.update(grid_axes(value, here))
    return axes


def grid_points(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the configurations that `config` stands for, one per combination of its grids' values.

    Of a grid with more than `MAX_POINTS_CHECKED` combinations, every single value is still seen once, the other
    grids being at their first value.
    """
    axes = grid_axes(config)
    for choice in _combinations(list(axes.values())):
        point = copy.deepcopy(dict(config))
        for path, value in zip(axes, choice, strict=True):
            _put(point, path, value)
        yield point


def grid_size(config: Mapping[str, Any]) -> int:
    """Returns how many configurations `config` stands for."""
    size = 1
    for choices in grid_axes(config).values():
        size *= len(choices)
    return size


def _combinations(axes: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    size = 1
    for choices in axes:
        size *= len(choices)
    if size <= MAX_POINTS_CHECKED:
        yield from itertools.product(*axes)
        return
    first = [choices[0] for choices in axes]
    for index, choices in enumerate(axes):
        for value in choices:
            yield (*first[:index], value, *first[index + 1 :])


def _put(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value
