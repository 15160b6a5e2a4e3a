"""Lines that a trial has to say while it runs, as of a worker that is restarted; whoever shows progress shows them.

They go through Ray's key-value store, which reaches that process from any node.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_list,
    _internal_kv_put,
)

logger = logging.getLogger(__name__)
_PREFIX = "k24_rllib notice of "


def say(text: str, trial_id: str | None) -> None:
    """Says a line: in this process's log, and to whoever asks for the trial's; None is one that Tune does not run."""
    logger.warning(text)
    if trial_id is not None and _internal_kv_initialized():
        _internal_kv_put(f"{_PREFIX}{trial_id} {time.time_ns()}", text)


def heard(trial_ids: Collection[str]) -> list[tuple[str, str]]:
    """Returns the lines that trials have said since the last call, each with its trial's id, in their order."""
    if not _internal_kv_initialized():
        return []
    lines = []
    for key in sorted(_internal_kv_list(_PREFIX), key=lambda key: key.decode().rpartition(" ")[2]):
        trial_id = key.decode().removeprefix(_PREFIX).partition(" ")[0]
        if trial_id not in trial_ids:  # of someone else's run on the same cluster
            continue
        text = _internal_kv_get(key)
        _internal_kv_del(key)
        if text is not None:
            lines.append((trial_id, text.decode()))
    return lines
