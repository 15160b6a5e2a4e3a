"""`python -m benchmarks.campaign`: every method on every task of a file, with several seeds, as a table and CSV files.

Runs are Ray tasks on one core each, without Tune: hundreds of short ones would spend most of their time on starting.
Each writes a file of its own when it ends, so what is finished is not run again after an interruption.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray

from benchmarks.campaign_run import play
from benchmarks.end_to_end import start_quiet_ray
from k24_rllib.checks import ConfigError, check_name, check_number
from k24_rllib.command_line import Parser, exit_code, positive_number, whole_number
from k24_rllib.comparison.methods import compare_runs
from k24_rllib.comparison.parameters import ParameterCount
from k24_rllib.comparison.points_csv import read_points, write_points
from k24_rllib.comparison.runs import Environment, Point, Reading, Run
from k24_rllib.comparison.table import Budget, make_table, print_tables
from k24_rllib.comparison.training import parse_seeds
from k24_rllib.experiments.experiment import build_config
from k24_rllib.experiments.yaml_reader import read_yaml_file

FILE = Path(__file__).with_name("tasks.yaml")
EVALUATIONS = 10
"""Of a run, evenly over its steps; the last is its result."""
METRICS = ("pattern_mean_similarity", "pattern_entropy", "loss_td")
"""Of the learner, kept beside the returns where a method reports them."""


KINDS: dict[str, set[str]] = {"methods": {"run"}, "tasks": {"env", "steps"}}
"""What a file has, and the keys that an entry of each must have."""


@dataclass(frozen=True)
class Job:
    """One seed of one method on one task."""

    task: str
    method: str
    seed: int
    run: str
    """The algorithm's registered name."""
    settings: Mapping[str, Any]
    """Its flat configuration, environment included."""
    steps: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.task}, {self.method}, seed {self.seed}"

    @property
    def environment(self) -> Environment:
        """As a comparison knows it."""
        return Environment(self.settings["env"], json.dumps(self.settings["env_config"], sort_keys=True))

    def file(self, out: Path) -> Path:
        """Returns where its result goes."""
        return out / self.task / f"{self.method.replace(' ', '_')}-{self.seed}.json"


def plan(content: Mapping[str, Any], seeds: Sequence[int], budget: float = 1.0) -> list[Job]:
    """Returns every run that a file means, the first seed of all before the second of any.

    Args:
        content: Of the file: `methods` and `tasks` by name, and `shared` settings.
        seeds: One run each.
        budget: The share of each task's steps to run.

    Raises:
        ConfigError: for a setting, environment or algorithm that is not known; nothing has run by then.
    """
    jobs = []
    for seed in seeds:
        for task, spec in content["tasks"].items():
            steps = round(check_number(f"{task}.steps", spec["steps"], low=1, integer=True) * budget)
            for method, made in content["methods"].items():
                settings = {**content.get("shared", {}), **spec.get("config", {}), **made.get("config", {})}
                settings |= {"env": spec["env"], "env_config": spec.get("env_config", {}), "seed": seed}
                jobs.append(Job(task, method, seed, made["run"], _with_length(made["run"], settings, steps), steps))
    for job in jobs[: len(content["tasks"]) * len(content["methods"])]:
        build_config(job.run, job.settings)
    return jobs


def _with_length(run: str, settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Returns settings with everything that follows from a run's steps."""
    from k24_rllib import ALGORITHMS

    if "total_env_steps" in ALGORITHMS[run]().to_dict():
        settings = {**settings, "total_env_steps": steps}
    return {"min_sample_timesteps_per_iteration": max(steps // EVALUATIONS, 1), "num_env_runners": 0, **settings}


def read_file(path: Path) -> dict[str, Any]:
    """Returns a file's methods, tasks and shared settings.

    Raises:
        ConfigError: for what is no such file.
    """
    content = read_yaml_file(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(kind), dict) for kind in KINDS):
        raise ConfigError(f"{path}: expected {' and '.join(KINDS)}, each with names and what they mean")
    for kind, needed in KINDS.items():
        for name, spec in content[kind].items():
            if not isinstance(spec, dict) or not needed <= spec.keys():
                raise ConfigError(f"{path}: {kind}: {name}: got {spec!r}, expected {', '.join(sorted(needed))}")
    return content


def selected(content: Mapping[str, Any], kind: str, given: str | None) -> dict[str, Any]:
    """Returns the `tasks` or `methods` that a list of names means; all for None."""
    every: dict[str, Any] = content[kind]
    if given is None:
        return every
    return {name: every[check_name(f"--{kind}", name, every)] for name in given.split(",")}


Key = tuple[str, Environment, int]
"""What a run in a CSV file is known by: its method, environment and seed."""


def read_known(path: Path) -> dict[Key, Run]:
    """Returns the runs that a CSV file of a campaign has."""
    return {(run.label, run.environment, int(run.seed or 0)): run for run in read_points(path, metrics=METRICS)}


def known_run(job: Job, known: Mapping[Key, Run]) -> Run | None:
    """Returns a job's run, if it is known and was as long as asked for."""
    run = known.get((job.method, job.environment, job.seed))
    return run if run is not None and run.points and run.last_step >= job.steps else None


def run_all(jobs: Sequence[Job], out: Path, processes: int) -> list[str]:
    """Runs the jobs whose results are not there yet, `processes` at a time; returns the names of those that failed."""
    waiting = [job for job in jobs if not job.file(out).exists()]
    print(f"{len(waiting)} runs to make, {len(jobs) - len(waiting)} finished before", flush=True)
    if not waiting:
        return []
    start_quiet_ray(cpus=processes)
    failed = []
    try:
        for number, (job, result) in enumerate(_as_they_end(waiting), start=1):
            if isinstance(result, Exception):
                failed.append(job.name)
                print(f"[{number}/{len(waiting)}] {job.name}: failed: {_cause(result)}", flush=True)
                continue
            _write_whole(job.file(out), {**asdict(job), **result})
            last = result["points"][-1]
            print(
                f"[{number}/{len(waiting)}] {job.name}: {last['greedy_return']:.2f} after {last['wall_s']:.0f} s",
                flush=True,
            )
    finally:
        ray.shutdown()
    return failed


def _as_they_end(jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Any] | Exception]]:
    """Gives each job and what came of it."""
    remote = ray.remote(num_cpus=1, max_retries=0)(play)
    running = {remote.remote(job.run, dict(job.settings), job.steps, METRICS): job for job in jobs}
    while running:
        (ended,), _ = ray.wait(list(running), num_returns=1)
        job = running.pop(ended)
        try:
            yield job, ray.get(ended)
        except ray.exceptions.RayError as error:
            yield job, error


def _cause(error: Exception) -> str:
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _write_whole(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def read_run(job: Job, out: Path) -> Run:
    """Returns a finished job's result as a comparison sees it.

    Raises:
        ConfigError: if what lies there was run with other settings.
    """
    content = json.loads(job.file(out).read_text())
    asked = json.loads(json.dumps([job.settings, job.steps]))
    if [content["settings"], content["steps"]] != asked:
        raise ConfigError(f"{job.file(out)}: was run with other settings, expected another --out, or it moved away")
    return Run(
        label=job.method,
        environment=job.environment,
        seed=job.seed,
        points=tuple(Point(**point) for point in content["points"]),
        source=str(out),
        algorithm=job.run,
        parameters=ParameterCount(**content["sizes"]),
        metrics={
            name: tuple(Reading(*reading) for reading in readings) for name, readings in content["metrics"].items()
        },
    )


def make_parser() -> Parser:
    """Returns the command's parser."""
    parser = Parser(
        prog="python -m benchmarks.campaign",
        description="Run every method on every task of a file, with several seeds, and print the comparison.",
        epilog="What is finished in --out is read and not run again. docs/tasks.md has the table that this makes.",
    )
    parser.add_argument("file", nargs="?", default=str(FILE), help="methods and tasks (default: benchmarks/tasks.yaml)")
    parser.add_argument("--out", required=True, metavar="DIR", help="where each run's result goes, and may lie already")
    parser.add_argument("--seeds", default="3", metavar="N", help="as for rllib compare (default %(default)s)")
    parser.add_argument("--tasks", metavar="A,B", help="these alone")
    parser.add_argument("--methods", metavar="A,B", help="these alone; the first is what others are held against")
    parser.add_argument("--processes", default=os.cpu_count(), metavar="N", help="runs at once (default: all cores)")
    parser.add_argument("--budget", default=1.0, metavar="SHARE", help="of each task's steps (default: all)")
    parser.add_argument("--csv", metavar="FILE", help="every evaluation, as rllib compare reads it")
    parser.add_argument("--known", metavar="FILE", help="an earlier --csv: the runs in it are not made again")
    parser.add_argument("--read", action="store_true", help="run nothing: compare what is finished")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the campaign that the words `argv` ask for and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _campaign(words), words)


def _campaign(words: Sequence[str]) -> int:
    arguments = make_parser().parse(words)
    content = read_file(Path(arguments.file))
    content |= {kind: selected(content, kind, getattr(arguments, kind)) for kind in ("tasks", "methods")}
    out = Path(arguments.out).expanduser().absolute()
    jobs = plan(content, parse_seeds(arguments.seeds), positive_number("--budget", arguments.budget))
    processes = whole_number("--processes", arguments.processes, low=1)
    known = read_known(Path(arguments.known)) if arguments.known else {}
    had = [known_run(job, known) for job in jobs]
    wanted = [job for job, run in zip(jobs, had, strict=True) if run is None]
    failed = [] if arguments.read else run_all(wanted, out, processes)
    found = [
        run or (read_run(job, out) if job.file(out).exists() else None) for job, run in zip(jobs, had, strict=True)
    ]
    runs = [replace(run, source=str(out)) for run in found if run is not None]
    if not runs:
        raise ConfigError(f"--out {arguments.out}: holds no result yet, expected some (without --read they are made)")
    comparisons = compare_runs(runs)
    tables = [make_table(comparison, Budget(), ("pattern_mean_similarity",)) for comparison in comparisons]
    print_tables(tables)
    if arguments.csv:
        write_points(Path(arguments.csv), comparisons, tables, METRICS)
    if failed:
        print(f"{len(failed)} failed; again: {shlex.join(['python', '-m', 'benchmarks.campaign', *words])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
