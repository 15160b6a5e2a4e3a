"""Training as users run it: environment steps a second of `algo.train()`, and the learner's memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import ray
import torch

from benchmarks.options import BenchOptions
from benchmarks.results import Quantity, Section, Target, cells, number
from benchmarks.team import CONFIGS, Sizes, configure
from benchmarks.timing import Measure, in_turn
from k24_rllib import register_all
from k24_rllib.experiments.ray_session import quiet_ray, start_ray
from k24_rllib.qmix import QMix

COPIES = 64
REPEATS = 5
TARGETS = {1.0: 1_500.0, 0.1: 15_000.0}
"""Environment steps a second on two cores, by updates an episode."""
MEMORY_LIMIT_MIB = 1_024.0
SETTLE_S = 0.3


@dataclass(frozen=True)
class Arrangement:
    """How a machine of two cores is used."""

    workers: int
    rounds_ahead: int
    threads: int


ARRANGEMENTS = {
    "a worker plays ahead": Arrangement(workers=1, rounds_ahead=1, threads=1),
    "one process, 2 threads": Arrangement(workers=0, rounds_ahead=0, threads=2),
}


def build(
    algorithm: str,
    sizes: Sizes,
    copies: int,
    updates_per_episode: float,
    arranged: Arrangement,
    quick: bool = False,
) -> QMix:
    """Returns an algorithm that has begun to learn; `quick` reports after every round, else as often as usual."""
    config = configure(algorithm, sizes)
    config.env_runners(num_env_runners=arranged.workers, num_envs_per_env_runner=copies)
    config.training(
        updates_per_episode=updates_per_episode,
        rollouts_ahead=arranged.rounds_ahead,
        torch_num_threads=arranged.threads,
    )
    if quick:
        config.reporting(min_sample_timesteps_per_iteration=1)
    algo: QMix = config.build_algo()
    for _ in range(2):
        algo.training_step()
    return algo


def start_quiet_ray(cpus: int, verbose: int = 0) -> None:
    """Starts Ray with `cpus` logical CPUs and everything registered, and its messages kept back unless `verbose`."""
    if verbose == 0:
        quiet_ray()
    start_ray(cpus=cpus, verbose=verbose)
    register_all()


def training_speed(algo: QMix, seconds: float) -> Measure:
    """Returns the measure of an algorithm's environment steps a second, over whole iterations of `seconds` at least."""

    def measure() -> float:
        torch.set_num_threads(algo.config.torch_num_threads)  # of this process, so whoever was built last had set it
        time.sleep(SETTLE_S)  # another's worker may still be at its round ahead
        before, start = algo._counters["num_env_steps_sampled"], time.perf_counter()
        while time.perf_counter() - start < seconds:
            algo.train()
        return (algo._counters["num_env_steps_sampled"] - before) / (time.perf_counter() - start)

    return measure


def measure(options: BenchOptions, say: Callable[[str], None]) -> Section:
    """Times training with every arrangement and algorithm in turn, then the learner's memory."""
    copies, repeats = options.copies or COPIES, options.repeats_or(REPEATS)
    sizes, seconds = Sizes(options.agents, options.hidden), 0.2 if options.quick else options.seconds
    section = Section(
        "end-to-end",
        f"end to end: steps/s of algo.train(); spread N = {sizes.agents}, hidden {sizes.hidden}, {copies} copies",
        ["updates per episode, arrangement", *CONFIGS, "quartiles (K24QMix)", "ratio"],
        settings={"agents": sizes.agents, "hidden": sizes.hidden, "copies": copies, "repeats": repeats},
    )
    # Of the algorithms built at once only one trains at a time, so they may share the cores.
    start_quiet_ray(cpus=2 * len(CONFIGS) * len(ARRANGEMENTS), verbose=options.verbose)
    try:
        for updates_per_episode in TARGETS:
            say(f"end to end: {updates_per_episode:g} updates per episode")
            taken = time_training(sizes, copies, updates_per_episode, repeats, seconds, options.quick)
            add_rows(section, updates_per_episode, taken)
    finally:
        ray.shutdown()
    say("end to end: memory")
    section.quantities["memory"] = learner_memory(sizes, copies, options.quick)
    memory = number(section.quantities["memory"].median)
    section.notes.append(f"The learner's peak memory beyond Ray and imports, with a full replay buffer: {memory} MiB.")
    if (sizes, copies) == (Sizes(), COPIES):
        section.targets = targets(section)
    return section


def time_training(
    sizes: Sizes, copies: int, updates_per_episode: float, repeats: int, seconds: float, quick: bool
) -> dict[str, Quantity]:
    """Returns the speed of every algorithm in every arrangement, taken in turn; names are `algorithm, arrangement`."""
    measures: dict[str, Measure] = {}
    with ExitStack() as built:
        for arrangement, arranged in ARRANGEMENTS.items():
            for name in CONFIGS:
                algo = build(name, sizes, copies, updates_per_episode, arranged, quick)
                built.callback(algo.stop)
                measures[f"{name}, {arrangement}"] = training_speed(algo, seconds)
        taken = in_turn(measures, repeats, warmups=0)
    return {name: Quantity("steps/s", rates) for name, rates in taken.items()}


def add_rows(section: Section, updates_per_episode: float, taken: Mapping[str, Quantity]) -> None:
    """Adds a row for each arrangement."""
    for arrangement in ARRANGEMENTS:
        mine, dense = (taken[f"{name}, {arrangement}"] for name in CONFIGS)
        median, quartiles = cells(mine)
        ratio = number(mine.over(dense).median)
        section.rows.append([f"{updates_per_episode:g}, {arrangement}", median, number(dense.median), quartiles, ratio])
    section.quantities |= {f"{updates_per_episode:g}, {name}": quantity for name, quantity in taken.items()}


def targets(section: Section) -> list[Target]:
    """Returns the targets, each held against the arrangement that is faster."""
    found = []
    for updates_per_episode, limit in TARGETS.items():
        named = {each: section.quantities[f"{updates_per_episode:g}, K24QMix, {each}"] for each in ARRANGEMENTS}
        best = max(named, key=lambda each: named[each].median)
        what = f"end to end, {updates_per_episode:g} updates per episode ({best})"
        found.append(Target(what, named[best], limit))
    memory = section.quantities["memory"]
    return [*found, Target("end to end, memory of the learner", memory, MEMORY_LIMIT_MIB, at_least=False)]


def learner_memory(sizes: Sizes, copies: int, quick: bool) -> Quantity:
    """Returns a learner's peak memory in MiB, from a process of its own, in which nothing ran before."""
    words = [sys.executable, "-m", "benchmarks.memory", json.dumps({**asdict(sizes), "copies": copies, "quick": quick})]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring memory failed: {done.stderr.strip().splitlines()[-1:]}")
    return Quantity("MiB", [float(done.stdout.splitlines()[-1])])
