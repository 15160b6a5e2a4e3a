"""The fully cooperative scenarios of MPE (package `mpe2`) as team environments."""

from __future__ import annotations

import importlib
import inspect
import os
from functools import partial
from typing import Any

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number, nearest
from k24_rllib.envs.pettingzoo import PettingZooTeamEnv
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.team_env import TeamEnv

COOPERATIVE = {
    "mpe_simple": "simple_v3",
    "mpe_simple_spread": "simple_spread_v3",
    "mpe_simple_reference": "simple_reference_v3",
    "mpe_simple_speaker_listener": "simple_speaker_listener_v4",
    "mpe_simple_formation": "simple_formation_v1",
    "mpe_simple_line": "simple_line_v1",
    "mpe_collect_treasure": "collect_treasure_v1",
}
"""Our name of each scenario whose agents all want the same, and mpe2's module."""

ENGINES = ("mpe2",)
OWN_OPTIONS = {"engine": "mpe2", "team_reward": "sum"}
FIXED_OPTIONS = ("render_mode", "continuous_actions", "benchmark_data", "dynamic_rescaling")
"""Options of mpe2 that training has no use for; `continuous_actions: false` is accepted."""

SPREAD_SCORE = (-81.4, -25.0)
"""Team returns on simple_spread, N = 3, 25 steps: random policy, scripted nearest-landmark assignment (measured)."""


def make_mpe(name: str, num_envs: int, **env_config: Any) -> TeamEnv:
    """Makes copies of an MPE scenario.

    Args:
        name: One of `COOPERATIVE`.
        num_envs: Copies stepped together.
        **env_config: The scenario's own arguments (`N`, `local_ratio`, `max_cycles`, ...), `team_reward`: `sum` (the
            default) or `mean` of the agents' rewards, and `engine`: `mpe2`.

    Raises:
        ConfigError: naming an unknown option or a value that cannot work.
    """
    if env_config.get("continuous_actions", False) is not False:
        value = env_config["continuous_actions"]
        raise ConfigError(f"continuous_actions: got {value!r}, expected false (QMIX needs discrete actions)")
    given = {key: value for key, value in env_config.items() if key != "continuous_actions"}
    defaults = _scenario_defaults(name)
    options = {**defaults, **OWN_OPTIONS}
    for key, value in given.items():
        if key not in options:
            raise ConfigError(f"unknown env_config key {key!r} of {name}{nearest(key, options)}")
        _check_option(key, value, options[key])
    options |= given
    check_choice("engine", options.pop("engine"), ENGINES)
    team_reward = options.pop("team_reward")
    scored = name == "mpe_simple_spread" and team_reward == "sum"
    usual = scored and all(options[key] == value for key, value in defaults.items())
    return PettingZooTeamEnv(
        partial(_scenario_module(name).parallel_env, **options),
        num_envs,
        episode_limit=options["max_cycles"],
        team_reward=team_reward,
        score_reference=SPREAD_SCORE if usual else None,
    )


def _scenario_module(name: str) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # or pygame greets on stdout
    return importlib.import_module(f"mpe2.{COOPERATIVE[name]}")


def _scenario_defaults(name: str) -> dict[str, Any]:
    """Returns the scenario's arguments that matter to training, with mpe2's defaults."""
    signature = inspect.signature(_scenario_module(name).raw_env.__init__)
    return {
        key: parameter.default
        for key, parameter in signature.parameters.items()
        if key != "self" and key not in FIXED_OPTIONS
    }


def _check_option(key: str, value: Any, default: Any) -> None:
    """Checks an option by what its default is: a bool, a count, a ratio, or a count that may be left out."""
    if key in OWN_OPTIONS or (default is None and value is None):
        return
    if isinstance(default, bool):
        check_bool(key, value)
    elif isinstance(default, float):
        check_number(key, value, low=0.0, high=1.0)
    else:
        check_number(key, value, low=1, integer=True)


for _name in COOPERATIVE:
    register_team_env(_name, partial(make_mpe, _name))
