"""Makes algorithms, models and environments known to Ray, in every process that imports the package."""

from __future__ import annotations

from ray.tune.registry import register_trainable

from k24_rllib import envs
from k24_rllib.algorithms import K24QMix, K24QMixConfig, KaleidoscopeQMix, KaleidoscopeQMixConfig
from k24_rllib.envs import TeamEnvFactory, team_env_factory, team_env_names
from k24_rllib.models import register_models
from k24_rllib.qmix import QMix, QMixConfig
from k24_rllib.qmix.rollout import register_rllib_env

ALGORITHMS: dict[str, type[QMixConfig]] = {
    "QMix": QMixConfig,
    "K24QMix": K24QMixConfig,
    "KaleidoscopeQMix": KaleidoscopeQMixConfig,
}
"""Configuration class of each algorithm, by the name that `run:` takes in a file."""


def register_all() -> None:
    """Registers everything of this package with Ray.

    Importing the package calls it. Ray forgets all registrations at `ray.shutdown()`: call it again to name the
    algorithms to a new Ray, as in `tune.Tuner("K24QMix")`. (A config's `build_algo()` needs no reminder.)
    """
    register_models()
    register_trainable("QMix", QMix)
    register_trainable("K24QMix", K24QMix)
    register_trainable("KaleidoscopeQMix", KaleidoscopeQMix)
    for name in team_env_names():
        register_rllib_env(name, team_env_factory(name))


def register_team_env(name: str, factory: TeamEnvFactory) -> None:
    """Adds an environment of your own, under a name that configurations and files can use.

    Args:
        name: The name; an existing one is replaced.
        factory: Called as `factory(num_envs, **env_config)`, returns a `TeamEnv` of that many copies. It travels to
            remote workers by pickling.
    """
    envs.register_team_env(name, factory)
    register_rllib_env(name, factory)
