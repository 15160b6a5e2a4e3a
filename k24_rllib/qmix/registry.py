"""Algorithms by name: the class that RLlib trains, and the configuration that builds it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from k24_rllib.checks import ConfigError, check_name
from k24_rllib.own_algorithms import OWN_ALGORITHMS
from k24_rllib.registry import Registry
from k24_rllib.settings import Declared

if TYPE_CHECKING:
    from k24_rllib.qmix.config import QMixConfig


class AlgorithmRegistry(Registry):
    """Algorithm classes by the name that `run:` takes in a file.

    A configuration class needs no mention of its algorithm, and the algorithm's module alone imports the configuration:
    which belongs to which is known here. The package's own are known by name, and imported when one is asked for.
    """

    def __init__(self) -> None:
        super().__init__("algorithm", given=("config",))

    def register(self, name: str, factory: Any) -> None:
        """Makes an algorithm known to this package and to Ray Tune.

        Raises:
            ConfigError: for a name that another algorithm has, or for what is no algorithm of RLlib.
        """
        from ray.rllib.algorithms.algorithm import Algorithm
        from ray.tune.registry import register_trainable

        if not isinstance(factory, type) or not issubclass(factory, Algorithm):
            raise ConfigError(f"algorithm {name!r}: got {factory!r}, expected a subclass of QMix")
        if name in OWN_ALGORITHMS and factory.__module__ != OWN_ALGORITHMS[name].module:
            self._import(name)  # which has the name
        super().register(name, factory)
        register_trainable(name, factory)

    def names(self) -> list[str]:
        """Returns the known names, sorted."""
        return sorted({*OWN_ALGORITHMS, *self._factories})

    def check(self, name: object) -> str:
        """Returns `name` if it is known; otherwise `ConfigError` has the nearest that is."""
        return check_name(self.kind, name, self.names())

    def factory(self, name: str) -> Any:
        """Returns the class of a known algorithm."""
        self._import(self.check(name))
        return self._factories[name]

    def settings_class(self, name: str) -> type[Declared]:
        """Returns the class that declares a known algorithm's settings; for the package's own this needs no RLlib."""
        if self.check(name) in OWN_ALGORITHMS:
            return OWN_ALGORITHMS[name].settings()
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in OWN_ALGORITHMS or super().__contains__(name)

    def _import(self, name: str) -> None:
        """Imports one of the package's own algorithms, which registers itself."""
        if name in OWN_ALGORITHMS and name not in self._factories:
            import_module(OWN_ALGORITHMS[name].module)

    def register_with_ray(self) -> None:
        """Tells Ray of every algorithm again: it forgets them all at `ray.shutdown()`."""
        from ray.tune.registry import register_trainable

        for name in self.names():
            register_trainable(name, self.factory(name))

    def __getitem__(self, name: str) -> type[QMixConfig]:
        """Returns the configuration class of a known algorithm."""
        config_class: type[QMixConfig] = self.factory(name).config_class
        return config_class

    def in_order(self) -> list[Any]:
        """Returns the algorithms in the order of their registration: the first with a configuration class owns it."""
        for name in OWN_ALGORITHMS:
            self._import(name)
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
