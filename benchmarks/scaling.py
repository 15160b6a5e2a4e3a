"""How updates and rollouts scale: with agents, with width, with copies and with workers.

Every point is measured briefly; a point's algorithms are taken in turn, so its ratios hold better than its times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ray

from benchmarks.end_to_end import Arrangement, build, start_quiet_ray
from benchmarks.floor import Floor
from benchmarks.options import BenchOptions
from benchmarks.results import Quantity, Section, number
from benchmarks.rollout import RolloutParts
from benchmarks.team import CONFIGS, Sizes, make_copies, make_policy, set_up_process
from benchmarks.timing import in_turn, milliseconds, per_second
from benchmarks.update import Learner
from k24_rllib.qmix import QMix

AGENTS = (3, 6, 12, 24)
HIDDEN = (64, 128, 256)
COPIES = (1, 4, 16, 64, 256)
WORKERS = (1, 2)
REPEATS = 5

Say = Callable[[str], None]
Key = tuple[Any, ...]


def measure(options: BenchOptions, say: Say) -> Section:
    """Times every point of the study; `quick` takes the smallest and the next of each axis."""
    few = 2 if options.quick else None
    agents, hidden, copies = AGENTS[:few], HIDDEN[:few], COPIES[:few]
    repeats = options.repeats_or(REPEATS)
    used = set_up_process(options.threads)
    section = Section(
        "scaling",
        f"scaling on spread, threads {options.threads}: an update in ms, rollouts in steps/s",
        ["N", "hidden", *CONFIGS, "ratio", "floor", *(f"{count} copies" for count in copies)],
        settings={"agents": agents, "hidden": hidden, "copies": copies, "workers": WORKERS, "repeats": repeats},
    )
    for size in agents:
        for width in hidden:
            sizes = Sizes(size, width)
            say(f"scaling: N = {size}, hidden {width}")
            time_updates(section, sizes, used, repeats)
            time_rollouts(section, sizes, copies, repeats, options.quick)
            add_row(section, sizes, copies)
    time_workers(section, agents, copies, options, say)
    return section


def key(kind: str, name: str, sizes: Sizes, *further: Any) -> str:
    """Returns the name of one point's figure."""
    return ", ".join([kind, name, f"N {sizes.agents}", f"hidden {sizes.hidden}", *map(str, further)])


def time_updates(section: Section, sizes: Sizes, precision: str, repeats: int) -> None:
    """Times an update of each algorithm and the floor, in turn."""
    learners = {name: Learner(name, sizes) for name in CONFIGS}
    works = {name: learner.update for name, learner in learners.items()}
    works["floor"] = Floor(learners["QMix"].policy.model).under(precision)
    taken = in_turn({name: milliseconds(work) for name, work in works.items()}, repeats, warmups=1)
    section.quantities |= {key("update", name, sizes): Quantity("ms", times) for name, times in taken.items()}


def time_rollouts(section: Section, sizes: Sizes, copies: tuple[int, ...], repeats: int, quick: bool) -> None:
    """Times rollouts in this process with each number of copies."""
    policies = {name: make_policy(name, sizes) for name in CONFIGS}
    for count in copies:
        plays = {name: RolloutParts(policy, sizes, count).play for name, policy in policies.items()}
        measures = {name: per_second(play, 0.01 if quick else 0.05) for name, play in plays.items()}
        taken = in_turn(measures, repeats, warmups=1)
        section.quantities |= {
            key("rollout", name, sizes, f"copies {count}"): Quantity("steps/s", rates) for name, rates in taken.items()
        }


def add_row(section: Section, sizes: Sizes, copies: tuple[int, ...]) -> None:
    """Adds the row of one number of agents and width."""
    mine, dense, floor = (section.quantities[key("update", name, sizes)] for name in (*CONFIGS, "floor"))
    rates = [section.quantities[key("rollout", "K24QMix", sizes, f"copies {count}")] for count in copies]
    figures = [mine, dense, mine.over(dense), floor, *rates]
    section.rows.append([str(sizes.agents), str(sizes.hidden), *(number(quantity.median) for quantity in figures)])


def time_workers(
    section: Section, agents: tuple[int, ...], copies: tuple[int, ...], options: BenchOptions, say: Say
) -> None:
    """Times rounds of rollouts by one and by two remote workers, their way to the learner included."""
    start_quiet_ray(cpus=max(WORKERS) + 1, verbose=options.verbose)
    section.rows += [[], ["N", "workers", *(f"{count} copies" for count in copies)]]
    try:
        for size in agents:
            say(f"scaling: N = {size}, {max(WORKERS)} workers")
            add_workers_rows(section, Sizes(size), copies, options)
    finally:
        ray.shutdown()


def add_workers_rows(section: Section, sizes: Sizes, copies: tuple[int, ...], options: BenchOptions) -> None:
    """Times every number of copies for one number of agents, and adds a row for each number of workers."""
    repeats = options.repeats_or(REPEATS)
    arranged = Arrangement(workers=max(WORKERS), rounds_ahead=0, threads=1)
    algo = build("K24QMix", sizes, copies=1, updates_per_episode=1e-6, arranged=arranged)
    rows = {workers: [str(sizes.agents), str(workers)] for workers in WORKERS}
    for count in copies:
        algo.env_runner_group.foreach_env_runner(
            partial(take_copies, sizes=sizes, copies=count), local_env_runner=False
        )
        plays = {str(workers): partial(play_round, algo, workers) for workers in WORKERS}
        measures = {name: per_second(play, 0.02 if options.quick else 0.2) for name, play in plays.items()}
        for name, rates in in_turn(measures, repeats, warmups=1).items():
            quantity = Quantity("steps/s", rates)
            section.quantities[key("workers", "K24QMix", sizes, f"copies {count}", f"workers {name}")] = quantity
            rows[int(name)].append(number(quantity.median))
    section.rows += rows.values()
    algo.stop()


def take_copies(worker: Any, sizes: Sizes, copies: int) -> None:
    """Gives a rollout worker another number of environment copies."""
    worker.team_env = make_copies(sizes, copies)


def play_round(algo: QMix, workers: int) -> int:
    """Has the first `workers` remote workers play a round, and returns its steps."""
    ids = list(range(1, workers + 1))
    batches = algo.env_runner_group.foreach_env_runner("sample", local_env_runner=False, remote_worker_ids=ids)
    return sum(batch.count for batch in batches)
