"""K-2:4 for Ray RLlib: QMIX, QMIX whose agents share weights but keep, each, a learned 2 of every 4, and Kaleidoscope.

Importing the package makes its algorithms (`QMix`, `K24QMix`, `KaleidoscopeQMix`), model (`k24_rnn`) and environments
known to Ray by name; `register_layer`, `register_mixer`, `register_agent`, `register_team_env` and
`register_algorithm` add yours. Names are imported when they are first asked for, so that the import takes no time:
`k24_rllib.sparsity` is plain PyTorch and works where Ray is not installed.
"""

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

from k24_rllib.ray_names import tell_ray

if TYPE_CHECKING:
    from k24_rllib.algorithms import K24QMix, K24QMixConfig, KaleidoscopeQMix, KaleidoscopeQMixConfig
    from k24_rllib.envs import TeamEnv, TeamStep, make_team_env, team_env_names
    from k24_rllib.qmix import ALGORITHMS, QMix, QMixConfig
    from k24_rllib.registration import (
        register_agent,
        register_algorithm,
        register_all,
        register_layer,
        register_mixer,
        register_team_env,
    )

__version__ = "0.1.0"

_MODULES = {
    "ALGORITHMS": "qmix",
    "K24QMix": "algorithms",
    "K24QMixConfig": "algorithms",
    "KaleidoscopeQMix": "algorithms",
    "KaleidoscopeQMixConfig": "algorithms",
    "QMix": "qmix",
    "QMixConfig": "qmix",
    "TeamEnv": "envs",
    "TeamStep": "envs",
    "make_team_env": "envs",
    "register_agent": "registration",
    "register_algorithm": "registration",
    "register_all": "registration",
    "register_layer": "registration",
    "register_mixer": "registration",
    "register_team_env": "registration",
    "team_env_names": "envs",
}
_ROOMS = (
    "algorithms",
    "callbacks",
    "comparison",
    "envs",
    "experiments",
    "kernels",
    "models",
    "qmix",
    "serve",
    "sparsity",
)
"""What can be asked for as an attribute of the package without an import of its own."""

__all__ = [
    "ALGORITHMS",
    "K24QMix",
    "K24QMixConfig",
    "KaleidoscopeQMix",
    "KaleidoscopeQMixConfig",
    "QMix",
    "QMixConfig",
    "TeamEnv",
    "TeamStep",
    "__version__",
    "make_team_env",
    "register_agent",
    "register_algorithm",
    "register_all",
    "register_layer",
    "register_mixer",
    "register_team_env",
    "team_env_names",
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for (PEP 562)."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = _import_large(f"{__name__}.{_MODULES[name]}", name)
    globals()[name] = value  # so that it is looked up once
    return value


def _import_large(module: str, name: str) -> Any:
    """Imports a name from a module that may bring RLlib and PyTorch.

    They make objects that stay, by the hundred thousand; not to look for garbage among them meanwhile saves a seventh.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return getattr(import_module(module), name)
    finally:
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})


tell_ray()
