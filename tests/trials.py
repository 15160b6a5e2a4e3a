"""Results as Tune writes them, for tests of what reads them."""

from __future__ import annotations

import json
from typing import Any

from k24_rllib.experiments.stopping import ENV_STEPS


def line(steps: int, greedy: float | None = None, metrics: dict[str, Any] | None = None, **more: Any) -> str:
    """Returns an iteration's line of `result.json`, with an evaluation and the learner's metrics if they are given."""
    result: dict[str, Any] = {ENV_STEPS: steps, "time_total_s": steps / 100, "training_iteration": steps // 100}
    learner = {} if metrics is None else {"default_policy": metrics}
    result |= {"info": {"num_updates": steps // 10, "learner": learner}, **more}
    if greedy is not None:
        result["evaluation"] = {"env_runners": {"episode_return_mean": greedy}}
    return json.dumps(result)
