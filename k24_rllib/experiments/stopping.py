"""When a run stops: the result keys a file's `stop` may name, their old names, and the stopper made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k24_rllib.checks import ConfigError, check_number, nearest
from k24_rllib.monitoring import result_value
from k24_rllib.settings import MOST

ENV_STEPS = "num_env_steps_sampled_lifetime"
ITERATIONS = "training_iteration"
SECONDS = "time_total_s"
TRAINING_RETURN = "env_runners/episode_return_mean"
GREEDY_RETURN = "evaluation/env_runners/episode_return_mean"
TRAINING_WIN_RATE = "env_runners/win_rate"
GREEDY_WIN_RATE = "evaluation/env_runners/win_rate"

_COUNTS = {
    ENV_STEPS: ENV_STEPS,
    "timesteps_total": ENV_STEPS,
    "num_env_steps_sampled": ENV_STEPS,
    "env_runners/num_env_steps_sampled_lifetime": ENV_STEPS,
    "num_agent_steps_sampled_lifetime": "num_agent_steps_sampled_lifetime",
    "num_agent_steps_sampled": "num_agent_steps_sampled_lifetime",
    "agent_timesteps_total": "num_agent_steps_sampled_lifetime",
    "num_env_steps_trained": "num_env_steps_trained",
    "num_env_steps_trained_lifetime": "num_env_steps_trained",
    ITERATIONS: ITERATIONS,
    "iterations_since_restore": "iterations_since_restore",
    SECONDS: SECONDS,
    "time_since_restore": "time_since_restore",
}

_STATISTICS = ("mean", "min", "max")


def _return_keys() -> dict[str, str]:
    """Returns every accepted name of an episode's return or length, and the key that results hold it under."""
    keys = {}
    for runners in ("env_runners", "evaluation/env_runners"):
        for statistic in _STATISTICS:
            actual = f"{runners}/episode_return_{statistic}"
            keys[actual] = keys[f"{runners}/episode_reward_{statistic}"] = actual
        keys[f"{runners}/episode_len_mean"] = f"{runners}/episode_len_mean"
        keys[f"{runners}/win_rate"] = f"{runners}/win_rate"
    for statistic in _STATISTICS:
        keys[f"episode_return_{statistic}"] = f"env_runners/episode_return_{statistic}"
        keys[f"episode_reward_{statistic}"] = f"env_runners/episode_return_{statistic}"
        keys[f"evaluation/episode_return_{statistic}"] = f"evaluation/env_runners/episode_return_{statistic}"
        keys[f"evaluation/episode_reward_{statistic}"] = f"evaluation/env_runners/episode_return_{statistic}"
        keys[f"sampler_results/episode_reward_{statistic}"] = f"env_runners/episode_return_{statistic}"
    keys["episode_len_mean"] = "env_runners/episode_len_mean"
    return keys


STOP_KEYS = {**_COUNTS, **_return_keys()}
"""Every name that `stop` accepts, and the result key that it means."""


def check_stop(stop: object, what: str = "stop") -> dict[str, float]:
    """Checks a `stop` section and returns it with today's names of its keys.

    Args:
        stop: What the user gave; results are nested dicts, so keys may be nested too, or joined by slashes.
        what: How the messages call it.
    """
    if stop is None:
        return {}
    if not isinstance(stop, Mapping):
        raise ConfigError(f"{what}: got {stop!r}, expected keys and values, as in timesteps_total: 100000")
    checked: dict[str, float] = {}
    for key, value in _flat(stop):
        if key not in STOP_KEYS:
            raise ConfigError(
                f"unknown {what} key {key!r}"
                f"{nearest(key, STOP_KEYS) or ' (known are timesteps_total, training_iteration, time_total_s, ...)'}"
            )
        low, high = (0, MOST) if key in _COUNTS else (None, None)
        checked[STOP_KEYS[key]] = check_number(f"{what}: {key}", value, above=low, high=high)
    return checked


def _flat(stop: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in stop.items():
        pairs += _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def is_reached(stop: Mapping[str, float], result: Mapping[str, Any]) -> bool:
    """Returns whether any of the stop values is reached; a result without the key (no evaluation yet) isn't there."""
    for key, goal in stop.items():
        value = result_value(result, key)
        if value is not None and value >= goal:  # NaN, a mean over no episode, is never there
            return True
    return False
