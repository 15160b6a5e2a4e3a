"""MPE's scenarios as team environments: on the batched engine, and three more through `mpe2`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from k24_rllib.checks import ConfigError, check_choice
from k24_rllib.envs.mpe.engine import ALL_SCENARIOS, BatchedMPE, scenario_options
from k24_rllib.envs.mpe.modules import COOPERATIVE, TWO_TEAM, scenario_module
from k24_rllib.envs.mpe.options import check_options, default_options
from k24_rllib.envs.mpe.rendering import write_gif
from k24_rllib.envs.mpe.scenarios import OWN_SCENARIOS, SCENARIOS
from k24_rllib.envs.mpe.scores import SCORE_REFERENCES, score_reference
from k24_rllib.envs.mpe.two_team import TwoTeamMPE
from k24_rllib.envs.pettingzoo import PettingZooTeamEnv
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.team_env import TeamEnv

__all__ = [
    "COOPERATIVE",
    "ENGINES",
    "OWN_SCENARIOS",
    "SCENARIOS",
    "SCORE_REFERENCES",
    "TWO_TEAM",
    "BatchedMPE",
    "TwoTeamMPE",
    "make_mpe",
    "write_gif",
]

ENGINES = ("batched", "mpe2")
FIXED_OPTIONS = ("self", "render_mode", "continuous_actions", "benchmark_data")
"""Arguments of mpe2's environments that training has no use for; `continuous_actions: false` is accepted."""


def make_mpe(name: str, num_envs: int, **env_config: Any) -> TeamEnv:
    """Makes copies of an MPE scenario.

    Args:
        name: One of `COOPERATIVE` or `OWN_SCENARIOS`.
        num_envs: Copies stepped together.
        **env_config: The scenario's own arguments (`N`, `local_ratio`, `max_cycles`, ...), `team_reward`: `sum` (the
            default) or `mean` of the agents' rewards, and `engine`: `batched`, the default where it has the scenario,
            or `mpe2`, which steps one copy after the other.

    Raises:
        ConfigError: naming an unknown option or a value that cannot work.
    """
    given = _of_discrete_actions(env_config)
    engine = check_choice(
        "engine", given.pop("engine", "mpe2" if name in COOPERATIVE and name not in SCENARIOS else "batched"), ENGINES
    )
    if engine == "mpe2" and name in OWN_SCENARIOS:
        raise ConfigError(f"engine: got 'mpe2', expected 'batched', the only engine that has {name}")
    if engine == "batched" and name not in ALL_SCENARIOS:
        raise ConfigError(f"engine: got 'batched', expected 'mpe2', the only engine that has {name}")
    defaults = _scenario_defaults(name)
    check_options(name, given, {**defaults, "engine": engine, "team_reward": "sum"})
    team_reward = given.pop("team_reward", "sum")
    options = defaults | given
    reference = score_reference(name, options, defaults, team_reward)
    shared: dict[str, Any] = {"team_reward": team_reward, "score_reference": reference}
    if engine == "batched":
        return BatchedMPE(name, num_envs, **options, **shared)
    make_env = partial(scenario_module(name).parallel_env, **options)
    return PettingZooTeamEnv(make_env, num_envs, episode_limit=options["max_cycles"], **shared)


def make_two_team(name: str, num_envs: int, **env_config: Any) -> TeamEnv:
    """Makes copies of a two-team scenario, of which one side is the team.

    Args:
        name: One of `TWO_TEAM`.
        num_envs: Copies stepped together.
        **env_config: `team` (`good` or `adversaries`), `opponents` (`scripted`, `random`, `still`, `trained`, `self` or
            a checkpoint), `team_reward`, and the scenario's own arguments; see `TwoTeamMPE`.

    Raises:
        ConfigError: naming an unknown option or a value that cannot work.
    """
    given = _of_discrete_actions(env_config)
    own = {"team": "good", "opponents": "scripted", "team_reward": "sum"}
    check_options(name, given, {**_scenario_defaults(name), **own})
    return TwoTeamMPE(name, num_envs, **given)


def _of_discrete_actions(env_config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options without `continuous_actions: false`, which alone can be said of it."""
    if env_config.get("continuous_actions", False) is not False:
        value = env_config["continuous_actions"]
        raise ConfigError(f"continuous_actions: got {value!r}, expected false (QMIX needs discrete actions)")
    return {key: value for key, value in env_config.items() if key != "continuous_actions"}


def _scenario_defaults(name: str) -> dict[str, Any]:
    """Returns the scenario's arguments that matter to training, with mpe2's defaults."""
    if name in ALL_SCENARIOS:
        return {**scenario_options(name), "max_cycles": 25, "dynamic_rescaling": True}
    return default_options(scenario_module(name).raw_env.__init__, without=FIXED_OPTIONS)


for _name in (*COOPERATIVE, *OWN_SCENARIOS):
    register_team_env(_name, partial(make_mpe, _name))
for _name in TWO_TEAM:
    register_team_env(_name, partial(make_two_team, _name))
