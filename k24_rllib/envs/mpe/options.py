"""The options that MPE's scenarios take, checked by what their defaults are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from k24_rllib.checks import ConfigError, check_bool, check_number, nearest

MOST_BODIES = 1_000
"""Of agents, landmarks and the like; every pair of them has a distance."""
MAY_BE_ZERO = ("num_obstacles", "num_forests")


def default_options(function: Callable[..., Any], *, without: tuple[str, ...]) -> dict[str, Any]:
    """Returns a scenario's arguments and their defaults, but for those named in `without`."""
    parameters = inspect.signature(function).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key not in without}


def check_options(name: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Checks the options given for scenario `name`: a bool, a ratio, a count, or a count that may be left out.

    Raises:
        ConfigError: naming an unknown option or a value that cannot work. A default that is a string stands for an
            option which is checked elsewhere.
    """
    for key, value in given.items():
        if key not in defaults:
            raise ConfigError(f"unknown env_config key {key!r} of {name}{nearest(key, defaults)}")
        default = defaults[key]
        if isinstance(default, str) or (default is None and value is None):
            continue
        if isinstance(default, tuple):
            check_groups(key, value)
        elif isinstance(default, bool):
            check_bool(key, value)
        elif isinstance(default, float):
            check_number(key, value, low=0.0, high=1.0)
        else:
            check_number(key, value, low=0 if key in MAY_BE_ZERO else 1, high=MOST_BODIES, integer=True)


def check_groups(key: str, groups: object) -> None:
    """Checks a list of how many agents there are of each kind."""
    if not isinstance(groups, list | tuple) or not groups:
        raise ConfigError(f"{key}: got {groups!r}, expected how many agents there are of each kind, as [2, 2, 2]")
    for size in groups:
        check_number(key, size, low=1, high=MOST_BODIES, integer=True)
    if sum(groups) > MOST_BODIES:
        raise ConfigError(f"{key}: got {sum(groups)} agents in all, expected at most {MOST_BODIES}")
