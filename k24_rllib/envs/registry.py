"""Team environments by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from k24_rllib.checks import ConfigError, check_name, check_number
from k24_rllib.envs.team_env import TeamEnv

TeamEnvFactory = Callable[..., TeamEnv]
"""Called as `factory(num_envs, **env_config)`; returns that many copies."""

_FACTORIES: dict[str, TeamEnvFactory] = {}
_REFUSALS: dict[str, str] = {}


def register_team_env(name: str, factory: TeamEnvFactory) -> None:
    """Makes an environment known as `name`; an existing one is replaced.

    `k24_rllib.register_team_env` does this and tells Ray too.
    """
    _FACTORIES[name] = factory


def refuse_team_env(name: str, why: str) -> None:
    """Gives the line that says why `name`, which users may well ask for, is no environment to train on."""
    _REFUSALS[name] = why


def team_env_names() -> list[str]:
    """Returns the known names, sorted."""
    return sorted(_FACTORIES)


def team_env_factory(name: str) -> TeamEnvFactory:
    """Returns the factory of a known name.

    Raises:
        ConfigError: naming the nearest known one, or why a name is refused.
    """
    if isinstance(name, str) and name in _REFUSALS and name not in _FACTORIES:
        raise ConfigError(_REFUSALS[name])
    return _FACTORIES[check_name("environment", name, team_env_names())]


def make_team_env(name: str, num_envs: int, **env_config: Any) -> TeamEnv:
    """Makes copies of an environment.

    Args:
        name: One of `team_env_names()`.
        num_envs: Copies stepped together.
        **env_config: The environment's own options.

    Raises:
        ConfigError: naming an unknown environment or option, or a value that cannot work.
    """
    factory = team_env_factory(name)
    check_number("num_envs", num_envs, low=1, integer=True)
    return factory(num_envs, **env_config)
