"""Looks for numbers that are none: in what environments give, and in what networks are made of.

A sum of squares is NaN or infinite if one of the numbers is, and nothing reads an array faster. So that is asked first,
and an array is looked through only where it is not finite. (The squares may also be too large for their type.)

Shapes: `E` episodes, `T` steps, `N` agents, `U` actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError
from k24_rllib.qmix.episodes import EpisodeBatch

GIVEN = {"obs": "observation", "state": "state", "team_reward": "team reward", "agent_rewards": "reward"}
"""What an environment gives as numbers, and how it is called."""
OF_AGENTS = ("obs", "agent_rewards")
OF_REWARDS = ("team_reward", "agent_rewards")


def check_episodes(episodes: EpisodeBatch, env: str, agents: Sequence[str] = ()) -> None:
    """Checks that what an environment gave can be learned from: finite numbers, and an action to take at every step.

    Args:
        episodes: Whole rounds of them at once.
        env: The environment's name.
        agents: Its agents' names, where they are known.

    Raises:
        ConfigError: naming the environment, the episode's copy, the step (0 is the reset), the agent and the value.
    """
    for name in GIVEN:
        values = getattr(episodes, name)  # [E, T or T + 1, ...]
        if not _may_be_finite(values):
            _refuse_values(name, values, env, agents)
    _check_available(episodes, env, agents)


def check_values(q: torch.Tensor) -> None:
    """Checks that action values are finite numbers: otherwise what is played is nobody's policy.

    Raises:
        ConfigError: if they are not.
    """
    if not bool(q.sum().isfinite()) and not bool(q.isfinite().all()):
        raise ConfigError(
            f"policy: its action values are no finite numbers (got {float(q[~q.isfinite()][0])}): its weights are too "
            "large, so it gets no score"
        )


def check_weights(state: Mapping[str, Any], what: str, so: str) -> None:
    """Checks that a network, or whatever has a state of arrays and tensors, is made of finite numbers.

    Args:
        state: Arrays and tensors by name; what is neither is passed over.
        what: What it is, as the message begins.
        so: What does not happen, as the message ends.

    Raises:
        ConfigError: naming the first array that is not, and how much of it.
    """
    for name, values in _float_arrays(state):
        if _may_be_finite(values):
            continue
        wrong = ~np.isfinite(values)
        if wrong.any():
            first = values[tuple(np.argwhere(wrong)[0])]
            raise ConfigError(
                f"{what}: {name}: got {first} and {int(wrong.sum()) - 1} more of {values.size} values that are no "
                f"finite numbers, {so}"
            )


def optimizer_arrays(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the moments of optimizers' states, by names for a message."""
    return {
        f"optimizer: {key} of parameter {index}": value
        for state in states
        for index, its in state.get("state", {}).items()
        for key, value in its.items()
    }


def _float_arrays(state: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in state.items():
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        if isinstance(array, np.ndarray | np.floating | float) and np.issubdtype(np.asarray(array).dtype, np.floating):
            yield name, np.asarray(array)


def _may_be_finite(values: NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(np.vdot(values, values)))


def _refuse_values(name: str, values: NDArray[Any], env: str, agents: Sequence[str]) -> None:
    """Raises for the first step at which one of `values [E, T, ...]` is not finite, if there is one."""
    wrong = ~np.isfinite(values)
    if not wrong.any():
        return
    t = int(np.flatnonzero(wrong.any(axis=(0, *range(2, wrong.ndim))))[0])
    copy, *place = np.argwhere(wrong[:, t])[0].tolist()
    step = t + (name in OF_REWARDS)  # rewards begin with the first step, all else with the reset
    where = f" of {_agent(place.pop(0), agents)}" if name in OF_AGENTS else ""
    entry = f", entry {place[0]}" if place else ""
    value = values[(copy, t, *np.argwhere(wrong[copy, t])[0])] if wrong.ndim > 2 else values[copy, t]
    raise ConfigError(
        f"environment {env}: {GIVEN[name]}{where} at step {step}{entry} (copy {copy}): got {value}, expected a finite "
        "number"
    )


def _check_available(episodes: EpisodeBatch, env: str, agents: Sequence[str]) -> None:
    """Checks that every agent had an action to take at every step that was taken."""
    of_action = np.moveaxis(episodes.avail_actions[:, :-1], -1, 0)  # [U, E, T, N]
    if of_action.all():
        return
    some = reduce(np.logical_or, of_action)  # as `any` over the last axis, in a quarter of its time
    if some.all():
        return
    wrong = ~some & episodes.valid()[..., None]
    if wrong.any():
        copy, t, agent = np.argwhere(wrong)[0].tolist()
        raise ConfigError(
            f"environment {env}: available actions of {_agent(agent, agents)} at step {t} (copy {copy}): got none, "
            "expected at least one"
        )


def _agent(index: int, agents: Sequence[str]) -> str:
    name = agents[index] if index < len(agents) else str(index)
    return name if name.startswith("agent") else f"agent {name}"
