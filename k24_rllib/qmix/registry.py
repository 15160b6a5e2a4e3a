"""Algorithms by name: the class that RLlib trains, and the configuration that builds it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune.registry import register_trainable

from k24_rllib.checks import ConfigError
from k24_rllib.registry import Registry

if TYPE_CHECKING:
    from k24_rllib.qmix.config import QMixConfig


class AlgorithmRegistry(Registry):
    """Algorithm classes by the name that `run:` takes in a file.

    A configuration class needs no mention of its algorithm, and the algorithm's module alone imports the configuration:
    which belongs to which is known here. The package's own are imported when the registry is first asked.
    """

    def __init__(self) -> None:
        super().__init__("algorithm", given=("config",))

    def register(self, name: str, factory: Any) -> None:
        """Makes an algorithm known to this package and to Ray Tune.

        Raises:
            ConfigError: for a name that another algorithm has, or for what is no algorithm of RLlib.
        """
        if not isinstance(factory, type) or not issubclass(factory, Algorithm):
            raise ConfigError(f"algorithm {name!r}: got {factory!r}, expected a subclass of QMix")
        super().register(name, factory)
        register_trainable(name, factory)

    def names(self) -> list[str]:
        """Returns the known names, sorted."""
        self._import_own()
        return super().names()

    def check(self, name: object) -> str:
        """Returns `name` if it is known; otherwise `ConfigError` has the nearest that is."""
        self._import_own()
        return super().check(name)

    def __contains__(self, name: object) -> bool:
        self._import_own()
        return super().__contains__(name)

    @staticmethod
    def _import_own() -> None:
        """Imports the package's algorithms, each of which registers itself.

        They are named, as a user's would be, because what they add stands on a floor above this one.
        """
        import_module("k24_rllib.algorithms")

    def register_with_ray(self) -> None:
        """Tells Ray of every algorithm again: it forgets them all at `ray.shutdown()`."""
        for name in self.names():
            register_trainable(name, self.factory(name))

    def __getitem__(self, name: str) -> type[QMixConfig]:
        """Returns the configuration class of a known algorithm."""
        algorithm: Any = self.factory(name)
        config_class: type[QMixConfig] = algorithm.config_class
        return config_class

    def in_order(self) -> list[Any]:
        """Returns the algorithms in the order of their registration: the first with a configuration class owns it."""
        self._import_own()
        return list(self._factories.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


ALGORITHMS = AlgorithmRegistry()
"""Every algorithm, the package's own and a user's."""


def algorithm_of(config_class: type[QMixConfig]) -> Any:
    """Returns the algorithm that a configuration class builds: the one registered with it, or with a base of it."""
    for base in config_class.__mro__:
        for algorithm in ALGORITHMS.in_order():
            if algorithm.config_class is base:
                return algorithm
    raise ConfigError(f"{config_class.__name__}: no algorithm is registered with it, expected register_algorithm")
