"""One run of a campaign, in a process of its own: training with greedy evaluations, as plain numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

GREEDY_EPISODES = 100
GREEDY_SEED = 1_000_003
"""Of the evaluations' episodes: the same for every method, and none that training plays."""


def play(run: str, settings: dict[str, Any], steps: int, metrics: Sequence[str]) -> dict[str, Any]:
    """Trains an algorithm for `steps` environment steps, with a greedy evaluation after each iteration.

    Args:
        run: The algorithm's registered name.
        settings: Its flat configuration.
        steps: When to stop.
        metrics: Of the learner, to keep where it reports them.

    Returns:
        `points`: environment steps, greedy return, wall time in seconds and updates of each evaluation; `sizes`: see
        `ParameterCount`; `metrics`: pairs of environment steps and value, by name.
    """
    import torch

    from k24_rllib import register_all
    from k24_rllib.comparison.parameters import ParameterCount
    from k24_rllib.experiments.experiment import build_config
    from k24_rllib.experiments.ray_session import quiet_ray

    quiet_ray()
    register_all()
    config = build_config(run, settings)
    algo = config.build_algo()
    torch.set_num_threads(1)
    points: list[dict[str, Any]] = []
    readings: dict[str, list[tuple[int, float]]] = {}
    began = time.monotonic()
    try:
        result: dict[str, Any] = {}
        while result.get("timesteps_total", 0) < steps:
            result = algo.train()
            reached = result["timesteps_total"]
            returns = algo.evaluate_greedy(GREEDY_EPISODES, seed=GREEDY_SEED)["episode_returns"]
            points.append(
                {
                    "env_steps": reached,
                    "greedy_return": float(returns.mean()),
                    "wall_s": time.monotonic() - began,
                    "updates": result["info"]["num_updates"],
                }
            )
            learner = result["info"]["learner"].get("default_policy", {})
            for name in metrics:
                if name in learner:
                    readings.setdefault(name, []).append((reached, float(learner[name])))
        counted = algo.policy.num_parameters()
        sizes = {name: round(counted[name]) for name in ParameterCount.__dataclass_fields__}
    finally:
        algo.stop()
    return {"points": points, "sizes": sizes, "metrics": readings}
