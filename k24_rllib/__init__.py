"""K-2:4 for Ray RLlib: QMIX, QMIX whose agents share weights but keep, each, a learned 2 of every 4, and Kaleidoscope.

Importing the package registers its algorithms (`QMix`, `K24QMix`, `KaleidoscopeQMix`), model (`k24_rnn`) and
environments with Ray; `register_layer`, `register_mixer`, `register_agent`, `register_team_env` and
`register_algorithm` add yours. `k24_rllib.sparsity` is plain PyTorch and works where Ray is not installed.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("ray") is not None:
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

    register_all()

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
