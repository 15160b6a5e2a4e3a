"""SMAX, as `smax`: StarCraft's skirmishes in JAX (JaxMARL: Rutherford et al. 2023, arXiv 2311.10090).

An optional package. Importing this module imports no JAX: that waits for the first environment.
"""

from __future__ import annotations

from k24_rllib.checks import check_choice, check_name, check_number
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.smax.start import start_jax
from k24_rllib.envs.team_env import MOST_STEPS, TEAM_REWARDS, TeamEnv

MAPS: dict[str, float | None] = {
    "2s3z": 0.209,
    "3s5z": 0.200,
    "3s_vs_5z": 0.220,
    "5m_vs_6m": 0.140,
    "27m_vs_30m": None,
    "smacv2_5_units": 0.251,
    "smacv2_10_units": None,
    "smacv2_20_units": None,
}
"""Each map, and an agent's return of uniformly random play among available actions, where it was measured.

Means of 4,096 episodes; standard errors below 0.0015, of `smacv2_5_units` 0.003.
"""
BEST = 2.0
"""An agent's return that no play exceeds: 1 for all of the enemies' health, and 1 for having won."""
OWNERS = ("agent", "unit_type")
"""Who may own a mask. On `smacv2` maps units get their types anew each episode, and then so do mask owners."""


def make_smax(
    num_envs: int,
    *,
    map: str = "2s3z",
    mask_owners: str = "agent",
    max_cycles: int | None = None,
    team_reward: str = "mean",
) -> TeamEnv:
    """Makes copies of a map, against JaxMARL's heuristic enemy.

    Args:
        num_envs: Copies, stepped together by one call that is compiled for the map and their number: that takes
            about half a minute, and a few seconds where it was done on this machine before.
        map: One of `MAPS`.
        mask_owners: `agent`: each its own; `unit_type`: units of a type share one.
        max_cycles: Steps of an episode; None means JaxMARL's own, 101.
        team_reward: `mean` or `sum` of the agents' rewards. All agents get the same, so the mean is what is reported.

    Raises:
        ConfigError: naming the command that installs JaxMARL where it is missing, or a value that cannot work.
    """
    map = check_name("map", map, MAPS)
    by_type = check_choice("mask_owners", mask_owners, OWNERS) == "unit_type"
    if max_cycles is not None:
        max_cycles = int(check_number("max_cycles", max_cycles, low=1, high=MOST_STEPS, integer=True))
    team_reward = check_choice("team_reward", team_reward, TEAM_REWARDS)
    start_jax()
    from k24_rllib.envs.smax.env import SmaxEnv

    random = MAPS[map]
    return SmaxEnv(
        num_envs,
        map,
        max_cycles=max_cycles,
        by_type=by_type,
        sum_rewards=team_reward == "sum",
        score_reference=None if random is None or max_cycles is not None or team_reward == "sum" else (random, BEST),
    )


register_team_env("smax", make_smax)
