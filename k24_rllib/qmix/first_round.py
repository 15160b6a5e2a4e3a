"""What a trial tells of its first round of episodes, long before its first iteration is over and Tune has a result.

It goes through Ray's key-value store, which reaches the process that shows progress from any node.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_put,
)


@dataclass(frozen=True)
class FirstRound:
    """The environment steps of a trial after its first round, and the mean team return of that round's episodes."""

    steps: int
    mean_return: float


def tell(trial_id: str, first: FirstRound) -> None:
    """Puts a trial's first round where `ask` finds it; without Ray it does nothing."""
    if _internal_kv_initialized():
        _internal_kv_put(_key(trial_id), json.dumps(asdict(first)))


def ask(trial_id: str) -> FirstRound | None:
    """Returns a trial's first round, once: None while there is none, or after it was told."""
    told = _internal_kv_get(_key(trial_id)) if _internal_kv_initialized() else None
    if told is None:
        return None
    _internal_kv_del(_key(trial_id))
    return FirstRound(**json.loads(told))


def _key(trial_id: str) -> str:
    return f"k24_rllib first round of {trial_id}"
