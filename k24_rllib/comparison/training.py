"""Running a YAML file's experiments with several seeds, one trial after the other, each by itself resumable.

Each experiment and seed is a Tune experiment of its own, `OUT/<experiment>/seed-<n>`: what is finished there is read
and not run again, what was interrupted goes on, and more seeds can be asked for later.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.runs import find_trials, read_config, read_results, was_built
from k24_rllib.experiments.experiment import Experiment, Overrides, read_experiments
from k24_rllib.experiments.grid import grid_points
from k24_rllib.experiments.run import RunOptions, ray_for, run_experiment
from k24_rllib.experiments.space import space_axes
from k24_rllib.experiments.stopping import is_reached
from k24_rllib.reporting import duration, print_error

DEFAULT_SEEDS = "5"
DEFAULT_OUT = "~/ray_results/compare"


@dataclass(frozen=True)
class Job:
    """One seed of one experiment."""

    experiment: Experiment
    """With its seed, and its directory as Tune is to make it."""
    label: str
    name: str
    """For messages: the experiment and its seed."""

    @property
    def directory(self) -> Path:
        """Where its trials lie; one unless the file has a grid."""
        return Path(self.experiment.directory)


def parse_seeds(text: str) -> list[int]:
    """Returns the seeds that `--seeds` means: `5` is 0 to 4, `3,7,9` is those, `3,` is the one seed 3."""
    parts = text.split(",")
    listed = len(parts) > 1
    if listed and not parts[-1].strip():
        parts = parts[:-1]
    if not all(re.fullmatch(r"\s*\d+\s*", part) for part in parts):
        raise ConfigError(
            f"--seeds: got {text!r}, expected a whole number of at least 1, or whole numbers as in --seeds 3,7,9"
        )
    seeds = [int(part) for part in parts]
    if not listed and seeds[0] < 1:
        raise ConfigError(f"--seeds: got {text!r}, expected a whole number of at least 1")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds: got {text!r}, expected each seed once")
    return seeds if listed else list(range(seeds[0]))


def check_out(given: str | None) -> Path:
    """Returns the directory for results, which must be on this machine."""
    text = given or DEFAULT_OUT
    if "://" in text:
        raise ConfigError(f"--out {text}: expected a directory on this machine")
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--out {text}: is a file, expected a directory")
    return path


def plan_jobs(file: Path, label: str | None, seeds: Sequence[int], overrides: Overrides, out: Path) -> list[Job]:
    """Reads a file and returns its experiments with each seed; all of it is checked.

    Raises:
        ConfigError: as `read_experiments` does, and if greedy evaluations are off.
    """
    jobs = []
    for experiment in read_experiments(file, replace(overrides, num_samples=1, seeds=seeds[:1])):
        if experiment.tune is not None or any(axis.distribution for axis in space_axes(experiment.config)):
            raise ConfigError(f"{file}: {experiment.name}: is a search, expected one method: compare what it found")
        for point in grid_points(experiment.config):
            if not point.get("evaluation_interval"):
                raise ConfigError(
                    f"{file}: {experiment.name}: evaluation_interval is missing, expected iterations between greedy "
                    "evaluations (or --set evaluation_interval=10)"
                )
        if not experiment.stop and experiment.time_budget_s is None:
            raise ConfigError(f"{file}: {experiment.name}: stop is missing, expected one (or --stop timesteps_total=N)")
        for seed in seeds:
            seeded = replace(
                experiment,
                config=copy.deepcopy(experiment.config) | {"seed": seed},
                storage_path=str(out / experiment.name),
                name=f"seed-{seed}",
            )
            jobs.append(Job(seeded, label or experiment.name, f"{experiment.name} seed {seed}"))
    return jobs


def in_rounds(jobs: Sequence[Job]) -> list[Job]:
    """Returns the jobs with the first seed of every experiment before the second of any.

    What is wrong with one of them shows early, and what there is after an interruption can be compared.
    """
    seeds = list(dict.fromkeys(job.experiment.config["seed"] for job in jobs))
    return sorted(jobs, key=lambda job: seeds.index(job.experiment.config["seed"]))


def check_apart(jobs: Sequence[Job]) -> None:
    """Checks that no two files want the same directory."""
    seen: set[Path] = set()
    for job in jobs:
        if job.directory in seen:
            raise ConfigError(f"{job.directory.parent.name}: is the name of two experiments, expected different names")
        seen.add(job.directory)


def is_finished(job: Job) -> bool:
    """Returns whether a job's trials all reached their end.

    Raises:
        ConfigError: if what lies in its directory was run with another configuration, or ended elsewhere.
    """
    points = [_as_json(point) for point in grid_points(job.experiment.config)]
    done = []
    for trial in _trials(job):
        given = _as_json(read_config(trial))
        if given not in points:
            raise ConfigError(
                f"{trial}: was run with another configuration ({_first_difference(given, points[0])}); "
                "expected another --out, or that directory moved away"
            )
        results = read_results(trial)
        if results and results[-1].get("done"):
            if job.experiment.time_budget_s is None and not is_reached(job.experiment.stop, results[-1]):
                raise ConfigError(
                    f"{trial}: ended before the stop that is asked for now; expected another --out, or that directory "
                    "moved away"
                )
            done.append(given)
    return all(point in done for point in points)


def _trials(job: Job) -> list[Path]:
    """Returns the directories of a job's trials so far, without those that could not be built."""
    try:
        return [trial for trial in find_trials(job.directory) if was_built(trial)]
    except ConfigError:
        return []


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration as a file of JSON gives it back."""
    content: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return content


def _first_difference(there: dict[str, Any], now: dict[str, Any]) -> str:
    for key in sorted(there.keys() | now.keys()):
        if there.get(key) != now.get(key):
            return f"{key}: {there.get(key, 'not given')!r} there, {now.get(key, 'not given')!r} now"
    return "as another point of the grid"


def run_jobs(
    jobs: Sequence[Job], options: RunOptions, again: str, finished: Callable[[Job], None]
) -> tuple[int, list[str]]:
    """Runs the jobs that are not finished, in turn, and says where it is.

    Args:
        jobs: All of them.
        options: How to run them.
        again: The command line that goes on, printed after Ctrl-C; none if empty.
        finished: Called with each job whose trials are finished, as soon as they are; those from before at once.

    Returns:
        The exit code if the user stopped it, otherwise 0, and the names of jobs that failed.
    """
    waiting = [job for job in jobs if not is_finished(job)]
    for job in jobs:
        if job not in waiting:
            print(f"{job.name}: finished before, in {job.directory}", flush=True)
            finished(job)
    if not waiting:
        return 0, []
    failed: list[str] = []
    began = time.monotonic()
    with ray_for([job.experiment for job in waiting], options):
        for number, job in enumerate(waiting, start=1):
            passed = f", {duration(time.monotonic() - began)} so far" if number > 1 else ""
            print(f"\n{job.name} ({number} of {len(waiting)}{passed})", flush=True)
            outcome = run_experiment(job.experiment, options)
            if outcome.stopped_by is not None:
                how = f"\ngo on with     {again}" if again else ""
                print(f"\n{job.name}: stopped; what is finished stays{how}", flush=True)
                return 128 + outcome.stopped_by, failed
            problems = outcome.problems()
            for problem in problems:
                print_error(problem)
                failed.append(job.name)
            if not problems:
                finished(job)
    return 0, failed
