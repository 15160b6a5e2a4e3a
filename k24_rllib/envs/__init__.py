"""Batched team environments: the interface, PettingZoo and a batched MPE behind it, and scenarios by name."""

from k24_rllib.envs import gymnasium_tuple, matrix, mpe, smacv2, smax, vmas  # noqa: F401  (each registers its own)
from k24_rllib.envs.pettingzoo import PettingZooTeamEnv
from k24_rllib.envs.registry import TeamEnvFactory, make_team_env, register_team_env, team_env_factory, team_env_names
from k24_rllib.envs.team_env import TeamEnv, TeamStep

__all__ = [
    "PettingZooTeamEnv",
    "TeamEnv",
    "TeamEnvFactory",
    "TeamStep",
    "make_team_env",
    "register_team_env",
    "team_env_factory",
    "team_env_names",
]
