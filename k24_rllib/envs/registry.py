"""Team environments by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from k24_rllib.checks import check_number
from k24_rllib.envs.team_env import TeamEnv
from k24_rllib.registry import Registry

TeamEnvFactory = Callable[..., TeamEnv]
"""Called as `factory(num_envs, **env_config)`; returns that many copies."""

ENVIRONMENTS = Registry("environment", given=("num_envs",), product=TeamEnv, options_key="env_config")


def register_team_env(name: str, factory: TeamEnvFactory) -> None:
    """Makes an environment known as `name`; `k24_rllib.register_team_env` does this and tells Ray too."""
    ENVIRONMENTS.register(name, factory)


def team_env_names() -> list[str]:
    """Returns the known names, sorted."""
    return ENVIRONMENTS.names()


def team_env_factory(name: str) -> TeamEnvFactory:
    """Returns the factory of a known name.

    Raises:
        ConfigError: naming the nearest known one.
    """
    return ENVIRONMENTS.factory(name)


def make_team_env(name: str, num_envs: int, **env_config: Any) -> TeamEnv:
    """Makes copies of an environment.

    Args:
        name: One of `team_env_names()`.
        num_envs: Copies stepped together.
        **env_config: The environment's own options.

    Raises:
        ConfigError: naming an unknown environment or option, or a value that cannot work.
    """
    check_number("num_envs", num_envs, low=1, integer=True)
    env: TeamEnv = ENVIRONMENTS.part(name, env_config).make(num_envs)
    return env
