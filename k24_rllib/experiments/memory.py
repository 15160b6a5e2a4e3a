"""What a trial needs of this machine's memory, told before it begins: the replay buffer, and its processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, make_team_env
from k24_rllib.qmix.episodes import EpisodeBatch

if TYPE_CHECKING:
    from k24_rllib.qmix import QMixConfig

PROCESS_BYTES = 200 * 2**20
"""The least that a process with Ray and PyTorch takes; most take twice as much."""


def machine_bytes() -> int | None:
    """Returns this machine's memory in bytes, or None where the system doesn't say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def episode_bytes(env: TeamEnv) -> int:
    """Returns what the replay buffer takes for one episode of an environment."""
    shape = (env.episode_limit, env.num_agents, env.obs_dim, env.state_dim, env.num_actions)
    short, longer = (
        sum(array.nbytes for array in EpisodeBatch.empty(1, steps, *shape[1:]).arrays().values()) for steps in (1, 2)
    )
    return short + (env.episode_limit - 1) * (longer - short)


def check_memory(configs: Sequence[QMixConfig]) -> None:
    """Checks that this machine can hold each trial's replay buffer and the processes of its workers.

    Raises:
        ConfigError: naming the setting, and how much there is room for.
    """
    there = machine_bytes()
    if there is None:
        return
    sizes: dict[str, int] = {}
    for config in configs:
        task = f"{config.env} {config.env_config}"
        if task not in sizes:
            sizes[task] = _learned_from(config)
        _check_room(config, sizes[task], there)


def _learned_from(config: QMixConfig) -> int:
    """Returns the bytes of an episode, in all buffers: with self-play the other side has one of its own."""
    from k24_rllib.qmix.self_play import other_sides_config, plays_itself

    sides = [config.env_config, *([other_sides_config(config).env_config] if plays_itself(config) else [])]
    size = 0
    for env_config in sides:
        env = make_team_env(config.env, 1, **env_config)
        size += episode_bytes(env)
        env.close()
    return size


def _check_room(config: QMixConfig, episode: int, there: int) -> None:
    """Checks one trial: `episode` bytes for each that is kept, `there` in all."""
    if config.buffer_episodes * episode > there:
        raise ConfigError(
            f"buffer_episodes: got {config.buffer_episodes}, expected at most {there // episode:,} on this machine: an "
            f"episode takes {told(episode)}, and there are {told(there)}"
        )
    for key in ("num_env_runners", "evaluation_num_env_runners"):
        if getattr(config, key) * PROCESS_BYTES > there:
            raise ConfigError(
                f"{key}: got {getattr(config, key)}, expected at most {there // PROCESS_BYTES} on this machine: each "
                f"is a process of at least {told(PROCESS_BYTES)}, and there are {told(there)}"
            )


def told(size: float) -> str:
    """Returns a number of bytes in words."""
    power = min(int(np.log2(max(size, 1)) // 10), 4)
    return f"{size / 2 ** (10 * power):.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
