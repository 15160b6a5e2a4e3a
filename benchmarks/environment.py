"""Environment steps a second: the batched engine beside `mpe2`'s own parallel environments, each scenario in turn.

Shapes: `T` steps of an episode, `E` copies, `N` agents.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.options import BenchOptions
from benchmarks.results import Quantity, Section, Target, cells, number
from benchmarks.team import SPREAD
from benchmarks.timing import in_turn, per_second
from k24_rllib.envs import TeamEnv
from k24_rllib.envs.mpe import SCENARIOS, BatchedMPE
from k24_rllib.envs.mpe.modules import scenario_module

COPIES = 32
REPEATS = 9
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in SCENARIOS},
    f"{SPREAD}, N = 10": (SPREAD, {"N": 10}),
}
"""Each row of the table: the scenario, and its options."""

SPREAD_RATIO, SPREAD_10_RATIO, SLOWEST_RATIO = 60.0, 120.0, 30.0


def measure(options: BenchOptions, say: Callable[[str], None]) -> Section:
    """Times whole episodes of random actions, resets included."""
    copies, repeats = options.copies or COPIES, options.repeats_or(REPEATS)
    section = Section(
        "environment",
        f"environment: steps/s of {copies} copies on the batched engine, and of mpe2's own; one process",
        ["scenario", "batched", "quartiles", "mpe2", "ratio"],
        settings={"copies": copies, "repeats": repeats},
    )
    ratios: dict[str, Quantity] = {}
    for row, (scenario, env_options) in CASES.items():
        say(f"environment: {row}")
        engine = partial(play_batched, *batched_episode(scenario, copies, env_options))
        reference = partial(play_mpe2, *mpe2_episode(scenario, env_options))
        at_least_s = 0.01 if options.quick else 0.1
        measures = {"batched": per_second(engine, at_least_s), "mpe2": per_second(reference, at_least_s)}
        taken = {name: Quantity("steps/s", rates) for name, rates in in_turn(measures, repeats).items()}
        ratios[row] = taken["batched"].over(taken["mpe2"])
        section.quantities |= {f"{row}: {name}": quantity for name, quantity in taken.items()}
        section.quantities[f"{row}: ratio"] = ratios[row]
        section.rows.append([row, *cells(taken["batched"]), number(taken["mpe2"].median), number(ratios[row].median)])
    if copies == COPIES:
        section.targets = targets(ratios)
    return section


def targets(ratios: dict[str, Quantity]) -> list[Target]:
    """Returns the targets of the engine's speed beside mpe2's."""
    slowest = min(ratios, key=lambda row: ratios[row].median)
    return [
        Target("environment, spread N = 3, beside mpe2", ratios[SPREAD], SPREAD_RATIO),
        Target("environment, spread N = 10, beside mpe2", ratios[f"{SPREAD}, N = 10"], SPREAD_10_RATIO),
        Target(f"environment, slowest scenario ({slowest}), beside mpe2", ratios[slowest], SLOWEST_RATIO),
    ]


def batched_episode(scenario: str, copies: int, options: dict[str, Any]) -> tuple[TeamEnv, NDArray[np.int64]]:
    """Returns an environment on the batched engine and random actions for an episode, `[T, E, N]`."""
    env = BatchedMPE(scenario, copies, **options)
    available = env.reset(seed=0).avail_actions  # [E, N, U]
    rng = np.random.default_rng(0)
    drawn = rng.random((env.episode_limit, *available.shape)) * available
    return env, drawn.argmax(-1)


def play_batched(env: TeamEnv, actions: NDArray[np.int64]) -> int:
    """Plays one episode in every copy and returns the steps of all of them."""
    env.reset()
    for now in actions:
        env.step(now)
    return actions.shape[0] * actions.shape[1]


def mpe2_episode(scenario: str, options: dict[str, Any]) -> tuple[Any, list[dict[str, int]]]:
    """Returns mpe2's parallel environment and random actions for an episode."""
    env = scenario_module(scenario).parallel_env(**options)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    sizes = {agent: env.action_space(agent).n for agent in env.possible_agents}
    steps = env.unwrapped.max_cycles
    return env, [{agent: int(rng.integers(size)) for agent, size in sizes.items()} for _ in range(steps)]


def play_mpe2(env: Any, actions: list[dict[str, int]]) -> int:
    """Plays one episode and returns its steps."""
    env.reset()
    for now in actions:
        env.step(now)
    return len(actions)
