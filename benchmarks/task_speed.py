"""`python -m benchmarks.task_speed`: environment steps a second of each task of a campaign, alone and in training.

Alone: whole episodes of random available actions in as many copies as training plays, resets included. In training:
`algo.train()` in one process with one thread, after the first updates. Tasks and what is timed take turns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.campaign import FILE, plan, read_file, selected
from benchmarks.end_to_end import start_quiet_ray, training_speed
from benchmarks.results import Quantity
from benchmarks.timing import Measure, in_turn, per_second
from k24_rllib.command_line import Parser, exit_code, positive_number, whole_number
from k24_rllib.envs import TeamEnv, make_team_env
from k24_rllib.experiments.experiment import build_config
from k24_rllib.reporting import output_file, print_table, write_measured

TIMED = ("QMIX", "K-2:4")
"""Methods whose training is timed."""
PACKAGES = ("torch", "ray", "numpy")


def episode_of_random_play(env: TeamEnv, rng: np.random.Generator) -> Callable[[], int]:
    """Returns what plays an episode in every copy and returns the steps of all that were not over."""

    def play() -> int:
        step, steps = env.reset(), 0
        while not step.done.all():
            steps += int((~step.done).sum())
            chances = rng.random(step.avail_actions.shape) * step.avail_actions
            step = env.step(chances.argmax(-1))
        return steps

    return play


def time_task(settings: Mapping[str, Mapping[str, Any]], seconds: float, repeats: int) -> dict[str, Quantity]:
    """Returns the speeds of a task: of the environment `alone`, and of training by method.

    Args:
        settings: Of each method, with the environment, flat.
        seconds: Of a measurement, at least.
        repeats: Turns.
    """
    first = next(iter(settings.values()))
    copies = first["num_envs_per_env_runner"]
    with ExitStack() as built:
        env = make_team_env(first["env"], copies, **first["env_config"])
        built.callback(env.close)
        env.reset(seed=0)
        measures: dict[str, Measure] = {
            "alone": per_second(episode_of_random_play(env, np.random.default_rng(0)), seconds)
        }
        for method, its in settings.items():
            config = build_config(its["run"], {key: value for key, value in its.items() if key != "run"})
            algo = config.build_algo()
            built.callback(algo.stop)
            for _ in range(3):
                algo.training_step()
            measures[method] = training_speed(algo, seconds)
        taken = in_turn(measures, repeats, warmups=0)
    return {name: Quantity("steps/s", rates) for name, rates in taken.items()}


def measure(content: Mapping[str, Any], seconds: float, repeats: int) -> dict[str, dict[str, Quantity]]:
    """Returns the speeds of every task of a campaign's file."""
    content = {**content, "methods": {name: content["methods"][name] for name in TIMED}}
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    for job in plan(content, [0]):
        its = {**job.settings, "run": job.run, "min_sample_timesteps_per_iteration": 1}
        settings.setdefault(job.task, {})[job.method] = its
    speeds = {}
    for task, methods in settings.items():
        print(task, file=sys.stderr, flush=True)
        speeds[task] = time_task(methods, seconds, repeats)
    return speeds


def main(argv: Sequence[str] | None = None) -> int:
    """Times what the words `argv` ask for, prints a table and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        prog="python -m benchmarks.task_speed", description="Environment steps a second of a campaign's tasks."
    )
    parser.add_argument("file", nargs="?", default=str(FILE), help="methods and tasks (default: benchmarks/tasks.yaml)")
    parser.add_argument("--tasks", metavar="A,B", help="these alone")
    parser.add_argument("--seconds", default=2.0, metavar="S", help="of a measurement, at least (default %(default)s)")
    parser.add_argument("--repeats", default=3, metavar="N", help="turns (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="all of it, with versions and machine")

    def run() -> int:
        arguments = parser.parse(words)
        content = read_file(Path(arguments.file))
        content["tasks"] = selected(content, "tasks", arguments.tasks)
        path = output_file("--json", arguments.json)
        seconds = positive_number("--seconds", arguments.seconds)
        repeats = whole_number("--repeats", arguments.repeats, low=1)
        torch.set_num_threads(1)
        start_quiet_ray(cpus=1)
        try:
            speeds = measure(content, seconds, repeats)
        finally:
            ray.shutdown()
        names = ("alone", *TIMED)
        rows = [[task, *(f"{its[name].median:,.0f}" for name in names)] for task, its in speeds.items()]
        print_table([["task", "environment alone", *(f"training {name}" for name in TIMED)], *rows])
        if path is not None:
            plain = {task: {name: quantity.samples for name, quantity in its.items()} for task, its in speeds.items()}
            write_measured(path, PACKAGES, steps_per_s=json.loads(json.dumps(plain)))
        return 0

    return exit_code(run, words)


if __name__ == "__main__":
    sys.exit(main())
