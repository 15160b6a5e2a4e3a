"""Tells Ray the package's names without importing what they name, which takes seconds that most commands don't need.

Ray keeps what is registered as a pickle, and a pickle can be a reference: it is resolved, and the algorithm imported,
when Ray is asked for the name. So nothing is imported before Ray's registry is, and then nothing of RLlib either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from k24_rllib.own_algorithms import OWN_ALGORITHMS

_REGISTRY = "ray.tune.registry"


class Reference:
    """Pickles as what it stands for: an attribute of a module, called with `arguments` if there are any."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self._where = (module, name, *arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return resolve, self._where


def resolve(module: str, name: str, *arguments: Any) -> Any:
    """Returns what a `Reference` stands for."""
    value = getattr(import_module(module), name)
    return value(*arguments) if arguments else value


def tell_ray() -> None:
    """Registers the package's algorithms, model and environments with Ray: now, or when Ray's registry is imported."""
    if _REGISTRY in sys.modules:
        _register(sys.modules[_REGISTRY])
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register(registry: ModuleType) -> None:
    from k24_rllib.envs import team_env_names

    register = registry._global_registry.register
    for name, own in OWN_ALGORITHMS.items():
        register(registry.TRAINABLE_CLASS, name, Reference(own.module, name))
    register(registry.RLLIB_MODEL, "k24_rnn", Reference("k24_rllib.models", "TeamModel"))
    for name in team_env_names():
        register(registry.ENV_CREATOR, name, Reference("k24_rllib.qmix.rollout", "rllib_env_creator", name))


class _Waiting(MetaPathFinder):
    """Sees Ray's registry being imported, and registers once that is done; every other import passes by."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns the registry's module as it is found without this finder, with the registration behind it."""
        if name != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AndThen(spec.loader)
        return spec


class _AndThen(Loader):
    """A module's own loader, with the registration after it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Makes the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module, then tells it this package's names."""
        self._loader.exec_module(module)
        _register(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
