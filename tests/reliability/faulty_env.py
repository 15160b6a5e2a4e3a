"""`faulty`: simple_spread that does something wrong at one step of its life; a file says that it has done so."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import k24_rllib
from k24_rllib.envs import TeamEnv, TeamStep, make_team_env


def faulty(num_envs: int, how: str = "raise", after: int = 60, once: str = "") -> TeamEnv:
    """Makes copies that fail in the way of `how` at step `after`: every time, or only if `once` isn't there yet."""
    env = make_team_env("mpe_simple_spread", num_envs, N=2)
    step, taken = env.step, [0]

    def faulty_step(actions: Any) -> TeamStep:
        taken[0] += 1
        result = step(actions)
        if taken[0] != after or (once and Path(once).exists()):
            return result
        if once:
            Path(once).touch()
        return spoil(result, how)

    env.step = faulty_step  # type: ignore[method-assign]
    return env


def spoil(result: TeamStep, how: str) -> TeamStep:
    """Raises, hangs, ends the process or returns something wrong."""
    if how == "raise":
        raise ValueError("the simulator is out of\nmarbles")
    if how == "hang":
        time.sleep(10_000)
    if how == "hang with the lock":
        ctypes.PyDLL(None).sleep(10_000)
    if how == "crash":
        os._exit(11)
    wrong = {
        "shape": {"obs": result.obs[:, :, :-1]},
        "broadcast": {"team_reward": result.team_reward[:1]},
        "type": {"obs": result.obs.astype(np.float64)},
        "list": {"team_reward": result.team_reward.tolist()},
    }
    return replace(result, **wrong.get(how, {}))


k24_rllib.register_team_env("faulty", faulty)
