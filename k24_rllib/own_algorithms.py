"""The package's own algorithms by name, and where each and its settings are found: nothing of it is imported here.

To import an algorithm is to import RLlib, which takes seconds; a name, a key or a value is refused without.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from k24_rllib.settings import Declared


@dataclass(frozen=True, slots=True)
class OwnAlgorithm:
    """Where an algorithm is found.

    Attributes:
        module: The module that defines the algorithm's class, which has its name, and registers it.
        settings_module: The module of its settings, which imports no RLlib.
        settings_class: The class that declares them.
    """

    module: str
    settings_module: str
    settings_class: str

    def settings(self) -> type[Declared]:
        """Returns the class that declares the algorithm's settings."""
        found: Any = getattr(import_module(self.settings_module), self.settings_class)
        declared: type[Declared] = found
        return declared


OWN_ALGORITHMS = {
    "K24QMix": OwnAlgorithm("k24_rllib.algorithms.k24_qmix", "k24_rllib.algorithms.k24_settings", "K24Settings"),
    "KaleidoscopeQMix": OwnAlgorithm(
        "k24_rllib.algorithms.kaleidoscope_qmix", "k24_rllib.algorithms.kaleidoscope_settings", "KaleidoscopeSettings"
    ),
    "QMix": OwnAlgorithm("k24_rllib.qmix.qmix", "k24_rllib.qmix.settings", "QMixSettings"),
}
