"""What two runs must have in common to be the same run: results but for times and places, and every network's bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

ARRANGEMENTS = [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1)]
"""Remote workers, and rounds that they play ahead."""

_OF_THE_PROCESS = ("config", "date", "hostname", "node_ip", "perf", "pid", "sampler_perf", "timers", "trial_id")
_PARTS = ("time", "restore", "throughput", "outstanding", "since", "healthy", "restarts", "evaluation")


def figures(algo: Any) -> dict[str, Any]:
    """Trains for an iteration and returns what came of it."""
    result = algo.train()
    evaluation = result.get("evaluation", {}).get("env_runners")
    return {"result": plain(result), "evaluation": plain(evaluation), "digest": digest(algo.policy)}


def digest(policy: Any) -> str:
    """Returns a digest of both networks and the optimizer's moments."""
    hashed = hashlib.sha256()
    for network in (policy.model, policy.target_model):
        for value in network.state_dict().values():
            hashed.update(value.numpy().tobytes())
    for moments in policy._optimizers[0].state_dict()["state"].values():
        for value in moments.values():
            hashed.update(value.numpy().tobytes())
    return hashed.hexdigest()


def plain(value: Any) -> Any:
    """Returns results that compare as equal if they are, without what tells of times, places and evaluations."""
    if isinstance(value, Mapping):
        kept = {str(key): its for key, its in value.items() if not _tells_of_the_process(str(key))}
        return {key: plain(its) for key, its in kept.items()}
    if isinstance(value, list | tuple):
        return [plain(its) for its in value]
    if isinstance(value, float | np.floating):
        return float(value).hex()  # NaN is itself
    return value


def _tells_of_the_process(key: str) -> bool:
    return key in _OF_THE_PROCESS or (any(part in key for part in _PARTS) and key != "timesteps_total")
