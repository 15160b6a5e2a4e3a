"""The package's doors: one call makes a layer, mixer, agent, environment or algorithm of your own known by name.

A name registered here can be used in configurations and files (`layer: my_layer`, `run: MyQMix`), and from the command
line with `rllib train --import my_module`. docs/extending.md has a worked example of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from k24_rllib import algorithms, envs  # noqa: F401  (registers the package's algorithms)
from k24_rllib.envs import TeamEnvFactory, team_env_factory, team_env_names
from k24_rllib.models import AGENTS, MIXERS, Agent, register_models
from k24_rllib.qmix import ALGORITHMS, QMix
from k24_rllib.qmix.rollout import register_rllib_env
from k24_rllib.qmix.sharing import share, share_again
from k24_rllib.sparsity import LAYERS, MaskedLayer


def register_all() -> None:
    """Registers everything of this package, and what was added to it, with Ray.

    Importing the package has the same effect. Ray forgets all registrations at `ray.shutdown()`: call this to name the
    algorithms to a new Ray, as in `tune.Tuner("K24QMix")`. (A config's `build_algo()` needs no reminder.)
    """
    register_models()
    ALGORITHMS.register_with_ray()
    share_again()
    for name in team_env_names():
        register_rllib_env(name, team_env_factory(name))


def register_team_env(name: str, factory: TeamEnvFactory) -> None:
    """Adds an environment of your own.

    Args:
        name: The name, for `env:` and `environment(name)`.
        factory: Called as `factory(num_envs, **env_config)`, returns a `TeamEnv` of that many copies. What it takes
            beside `num_envs` are the keys of `env_config`. It travels to remote workers by pickling.

    Raises:
        ConfigError: for a name that something else has, or for a factory that cannot be called so; the same holds for
            every function here.
    """
    envs.register_team_env(name, factory)
    register_rllib_env(name, factory)


def register_layer(name: str, factory: Callable[..., MaskedLayer]) -> None:
    """Adds a layer for the agents' fully connected layers.

    Args:
        name: The name, for `layer:`.
        factory: A `MaskedLayer` subclass, or what makes one, called as `factory(in_features, out_features, num_masks,
            **options)`. Options are the keys of `layer_options`; settings that the algorithm offers to layers
            (`compiled`, those of `K24QMixConfig.k24()`) come where the factory has an option of that name.
    """
    LAYERS.register(name, factory)
    share(LAYERS, name)


def register_mixer(name: str, factory: Callable[..., nn.Module]) -> None:
    """Adds a mixer.

    Args:
        name: The name, for `mixer:`.
        factory: A module class, or what makes one, called as `factory(num_agents, state_dim, **options)`. The module
            maps `agent_q [..., N]` and `state [..., S]` to `[..., K]`: `K = 1` for a joint value, `N` where every agent
            learns on its own. Options are the keys of `mixer_options`; `embed_dim`, `hypernet_dim` and `init_scale`
            come from the settings `mixing_embed_dim`, `hypernet_dim` and `mixer_init_scale`.
    """
    MIXERS.register(name, factory)
    share(MIXERS, name)


def register_agent(name: str, factory: Callable[..., Agent]) -> None:
    """Adds an agents' architecture.

    Args:
        name: The name, for `agent:`.
        factory: An `Agent` subclass, or what makes one, called as `factory(input_dim, num_actions, num_owners,
            make_layer, **options)`; `make_layer(in_features, out_features)` makes a layer of the kind that `layer:`
            names. Options are the keys of `agent_options`; `hidden_dim` and `compiled` come from the settings
            `hidden_dim` and `compile_kernels`.
    """
    AGENTS.register(name, factory)
    share(AGENTS, name)


def register_algorithm(name: str, algorithm: type[QMix]) -> None:
    """Adds an algorithm, for `run:` and `tune.Tuner(name)`.

    Args:
        name: The name; RLlib wants it to be that of the class.
        algorithm: A subclass of `QMix`, or of one of its subclasses, that names its `config_class` and `policy_class`
            where it has its own.
    """
    ALGORITHMS.register(name, algorithm)


__all__: list[Any] = [
    "register_agent",
    "register_algorithm",
    "register_all",
    "register_layer",
    "register_mixer",
    "register_team_env",
]
