"""What a checkpoint holds beside RLlib's own content, so that a run goes on from it bit for bit as if never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.rllib.evaluation.metrics import RolloutMetrics
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.qmix.packing import is_packed, pack, unpack

if TYPE_CHECKING:
    from k24_rllib.qmix.buffer import EpisodeReplayBuffer

FORMAT = 1
"""Version of a checkpoint's content; those of before there was one count as 0, and are read."""
FORMAT_KEY = "k24_rllib_format"
BUFFER_KEY = "local_replay_buffer"
LARGEST_BUFFER = 1 << 30
"""Bytes of a full replay buffer above which it is in checkpoints only if it is asked for."""


def check_format(state: Mapping[str, Any]) -> None:
    """Checks that this version can read a checkpoint's state.

    Raises:
        ConfigError: for one that a newer version has written.
    """
    found = state.get(FORMAT_KEY, 0)
    if not isinstance(found, int) or found > FORMAT:
        raise ConfigError(
            f"checkpoint: got format {found!r}, expected at most {FORMAT}: a newer k24_rllib has written it, and can "
            "read it"
        )


def packed_buffer(state: dict[str, Any]) -> dict[str, Any]:
    """Returns a replay buffer's state with its episodes packed."""
    return state if state["episodes"] is None else {**state, "episodes": pack(state["episodes"])}


def unpacked_buffer(state: dict[str, Any]) -> dict[str, Any]:
    """Returns what `packed_buffer` was given; older checkpoints hold episodes as they are."""
    episodes = state["episodes"]
    return state if episodes is None or not is_packed(episodes) else {**state, "episodes": unpack(episodes)}


def keeps_buffer(setting: bool | None, buffer: EpisodeReplayBuffer) -> bool:
    """Returns whether checkpoints hold the replay buffer: as set or, where nothing is, if it is not too large."""
    return setting if setting is not None else buffer.nbytes() < LARGEST_BUFFER


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metrics with tensors as numbers; reads them from the learner's device."""
    return {name: float(value) if isinstance(value, Tensor) else value for name, value in metrics.items()}


def plain_history(episodes: list[RolloutMetrics]) -> list[dict[str, Any]]:
    """Returns the episodes that reported means are taken over, as plain values."""
    return [episode._asdict() for episode in episodes]


def history_from(plain: list[dict[str, Any]]) -> list[RolloutMetrics]:
    """Returns what `plain_history` was given."""
    return [RolloutMetrics(**episode) for episode in plain]
