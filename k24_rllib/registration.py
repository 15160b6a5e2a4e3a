"""Makes algorithms, models and environments known to Ray, in every process that imports the package."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.tune.registry import register_env, register_trainable

from k24_rllib import envs
from k24_rllib.algorithms import K24QMix, K24QMixConfig
from k24_rllib.envs import TeamEnvFactory, make_team_env, team_env_names
from k24_rllib.models import register_models
from k24_rllib.qmix import QMix, QMixConfig, TeamBaseEnv

ALGORITHMS: dict[str, type[QMixConfig]] = {"QMix": QMixConfig, "K24QMix": K24QMixConfig}
"""Configuration class of each algorithm, by the name that `run:` takes in a file."""


def register_all() -> None:
    """Registers everything of this package with Ray; safe to call again."""
    register_models()
    register_trainable("QMix", QMix)
    register_trainable("K24QMix", K24QMix)
    for name in team_env_names():
        _register_with_ray(name, partial(make_team_env, name))


def register_team_env(name: str, factory: TeamEnvFactory) -> None:
    """Adds an environment of your own, under a name that configurations and files can use.

    Args:
        name: The name; an existing one is replaced.
        factory: Called as `factory(num_envs, **env_config)`, returns a `TeamEnv` of that many copies. It travels to
            remote workers by pickling.
    """
    envs.register_team_env(name, factory)
    _register_with_ray(name, factory)


def _register_with_ray(name: str, factory: TeamEnvFactory) -> None:
    def create(env_context: Any) -> TeamBaseEnv:
        return TeamBaseEnv(factory, env_context)

    register_env(name, create)
