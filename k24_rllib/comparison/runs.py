"""One trial as a comparison sees it: greedy evaluations and the learner's metrics, read from what Tune wrote."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from k24_rllib.checks import ConfigError, nearest
from k24_rllib.comparison.parameters import ParameterCount
from k24_rllib.experiments.stopping import ENV_STEPS, GREEDY_RETURN, ITERATIONS, SECONDS, result_value

RESULTS_FILE = "result.json"
CONFIG_FILE = "params.json"
ERROR_FILES = ("error.txt", "error.pkl")
"""What Tune writes when a trial fails, and leaves there when it goes on; one it could not build has nothing else."""
UPDATES = "info/num_updates"
LEARNER = "info/learner/default_policy"
SEED_DIRECTORY = re.compile(r"seed-\d+$")
"""Directories of the experiments that `rllib compare` makes, one for each seed of a method."""
_FAILURE = re.compile(r"^Failure # \d+ \(occurred at (\S+)\)$", re.MULTILINE)
"""The line above each error in Tune's `error.txt`; its time is written as a result's `date`."""
_DEPTHS = ("", "*/", "*/*/", "*/*/*/")
"""Where trials may lie under a given directory: it is one, an experiment, a storage path, or one that compare made."""


@dataclass(frozen=True)
class Point:
    """One greedy evaluation of a run."""

    env_steps: int
    greedy_return: float
    """Mean raw team return of the evaluation's episodes."""
    wall_s: float
    """Seconds of training up to there, evaluations included and pauses not."""
    updates: int | None = None
    """Gradient updates up to there, where the file tells them."""


class Reading(NamedTuple):
    """A number that a run reported, and where in training."""

    env_steps: int
    value: float


@dataclass(frozen=True)
class Environment:
    """What makes returns comparable: the environment and its options."""

    name: str
    options: str = "{}"
    """`env_config` as JSON with sorted keys."""

    @property
    def config(self) -> dict[str, Any]:
        """The options as a dict."""
        options: dict[str, Any] = json.loads(self.options)
        return options

    def __str__(self) -> str:
        if not self.name:
            return "an environment that is not named"
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.config.items())])


@dataclass(frozen=True)
class Run:
    """One seed of one method."""

    label: str
    """How the user calls the method, or the experiment's name; see `comparison.methods`."""
    environment: Environment
    seed: int | None
    points: tuple[Point, ...]
    """In the order of environment steps, rising."""
    source: str
    """Where it was read from, for messages."""
    algorithm: str | None = None
    """Its registered name, None where nothing tells it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration that the user gave, without seed and environment."""
    directory: Path | None = None
    """The trial's directory, None for a run that was read from a CSV file."""
    parameters: ParameterCount | None = None
    """Known here only for a run that was read from a CSV file."""
    metrics: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)
    """Of each of the learner's metrics the iterations that have a value, in the order of environment steps, rising."""
    failure: Path | None = None
    """The file that says why the trial failed; None for one that did not, or that went on afterwards."""

    @property
    def was_built(self) -> bool:
        """Whether it got as far as to have an environment; one that didn't failed."""
        return self.failure is None or bool(self.environment.name)

    def readings(self, metric: str | None) -> tuple[Reading, ...]:
        """Returns a metric's values over training, or the greedy returns for None; nothing where the run has none."""
        if metric is None:
            return tuple(Reading(point.env_steps, point.greedy_return) for point in self.points)
        return self.metrics.get(metric, ())

    @property
    def last_step(self) -> int:
        """Environment steps at the last evaluation."""
        return self.points[-1].env_steps


def find_trials(given: Path) -> list[Path]:
    """Returns the directories of the trials in `given`, failed ones too: itself, or up to three levels inside.

    Raises:
        ConfigError: if there is none, naming the nearest directory above that has some.
    """
    trials = _trials_in(given)
    if not trials:
        above = next((parent for parent in list(given.absolute().parents)[:3] if _trials_in(parent)), None)
        hint = f"; the nearest directory with some is {above}" if above else ""
        raise ConfigError(f"{given}: holds no trial, expected a directory with {RESULTS_FILE}, or a run's{hint}")
    return trials


def _trials_in(directory: Path) -> list[Path]:
    signs = (RESULTS_FILE, ERROR_FILES[-1])
    return sorted({file.parent for depth in _DEPTHS for sign in signs for file in directory.glob(depth + sign)})


def was_built(trial: Path) -> bool:
    """Returns whether a trial has settings, and perhaps results, to be read: one that Tune could not build has none."""
    return (trial / RESULTS_FILE).exists()


def missing_path(given: str) -> ConfigError:
    """Returns the error for a path that is not there, naming the nearest one beside it."""
    path = Path(given)
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return ConfigError(
        f"{given}: no such file or directory, expected a run's directory, a YAML file or a CSV file of evaluations"
        f"{nearest(path.name, beside)}"
    )


def experiment_name(trial: Path) -> str:
    """Returns the name of the experiment that a trial's directory belongs to."""
    directory = trial.absolute().parent
    return (directory.parent if SEED_DIRECTORY.match(directory.name) else directory).name


def read_trial(trial: Path, label: str | None = None) -> Run:
    """Reads a trial's configuration, greedy evaluations and metrics; a running trial's as far as they are written.

    Args:
        trial: The trial's directory.
        label: What to call the method; None takes the experiment's name.

    Returns:
        The run; see `make_run`.

    Raises:
        ConfigError: if the files can't be read, or hold no evaluation because none was asked for.
    """
    if not was_built(trial):
        return make_run(trial, {}, (), label)
    given = read_config(trial)
    results = read_results(trial)
    run = make_run(trial, given, results, label)
    if results and not run.points and run.failure is None:
        _check_evaluates(trial, given, results[-1])
    return run


def make_run(
    trial: Path, given: Mapping[str, Any], results: Sequence[Mapping[str, Any]], label: str | None = None
) -> Run:
    """Makes a run of what was read of a trial.

    Args:
        trial: The trial's directory.
        given: The settings that it was given.
        results: What it reported.
        label: What to call the method; None takes the experiment's name.

    Returns:
        The run. One that is too young for its first evaluation, or failed before it, has no points; one that
        could not be built has no environment and settings either.
    """
    if not was_built(trial):
        return Run(label or experiment_name(trial), Environment(""), None, (), str(trial), failure=_failure(trial, ()))
    points = [point for result in results if (point := _point(trial, result)) is not None]
    failure = _failure(trial, results)
    environment = Environment(str(given.get("env", "")), json.dumps(given.get("env_config") or {}, sort_keys=True))
    return Run(
        label=label or experiment_name(trial),
        environment=environment,
        seed=given["seed"] if isinstance(given.get("seed"), int) else None,
        points=_last_of_each_step(points),
        source=str(trial),
        algorithm=_algorithm(trial, results),
        settings={key: value for key, value in given.items() if key not in ("seed", "env", "env_config")},
        directory=trial,
        metrics=_metrics(results),
        failure=failure,
    )


def _failure(trial: Path, results: Sequence[Mapping[str, Any]]) -> Path | None:
    """Returns the file that says why a trial failed, or None if it did not, or has reported results since."""
    file = next((trial / name for name in ERROR_FILES if (trial / name).is_file()), None)
    if file is None or not results:
        return file
    if results[-1].get("done"):
        return None
    times = _FAILURE.findall(file.read_text(errors="replace"))
    went_on = bool(times) and max(times) < str(results[-1].get("date", ""))
    return None if went_on else file


def _algorithm(trial: Path, results: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the name of a trial's algorithm, or None where nothing tells it.

    A result holds the whole configuration. Its algorithm is the one that knows all keys of it, and of several the one
    with the fewest others: those of QMIX are keys of every algorithm. Where that doesn't decide, Tune's name for the
    directory does, which may have been changed.
    """
    from k24_rllib import ALGORITHMS

    named = trial.name.partition("_")[0]
    config = results[-1].get("config") if results else None
    keys = {key for key in config if not key.startswith("_")} if isinstance(config, Mapping) else set()
    others = {}
    for name in ALGORITHMS:
        known = ALGORITHMS[name]().known_keys()
        if keys and keys <= known:
            others[name] = len(known - keys)
    nearest_ones = [name for name, count in others.items() if count == min(others.values())]
    if len(nearest_ones) == 1:
        return nearest_ones[0]
    return named if named in (nearest_ones or ALGORITHMS) else None


def read_config(trial: Path) -> dict[str, Any]:
    """Returns the settings that a trial was given.

    Raises:
        ConfigError: naming the file, if it can't be read or holds something else.
    """
    file = trial / CONFIG_FILE
    text = _read_text(file)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{file}: can't be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected a trial's settings")
    options = content.get("env_config")
    if options is not None and not isinstance(options, dict):
        raise ConfigError(f"{file}: env_config: got {options!r}, expected keys and values")
    return content


def _read_text(file: Path) -> str:
    """Returns what a file holds; `ConfigError` names one that is no text, or that can't be opened."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not a text file, expected JSON as Tune writes it") from None
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror})") from None


def read_results(trial: Path, missing: list[str] | None = None) -> list[dict[str, Any]]:
    """Returns what a trial reported; the last line of one that is running may be half written and is left out.

    A run that was resumed from a checkpoint repeats what came after it: the later word stands.

    Args:
        trial: The trial's directory.
        missing: Takes a line for each result that can't be read, which is then left out.

    Raises:
        ConfigError: naming the file, and the line, if it can't be read or holds something else.
    """
    file = trial / RESULTS_FILE
    lines = _read_text(file).splitlines()
    results: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        result, wrong = _result(line)
        if result is None and number == len(lines) and wrong == _NO_JSON:
            break
        if result is None:
            problem = f"{file}: line {number}: {wrong}"
            if missing is None:
                raise ConfigError(problem)
            missing.append(problem)
            continue
        steps = result_value(result, ENV_STEPS) or 0.0
        while results and (result_value(results[-1], ENV_STEPS) or 0.0) >= steps:
            results.pop()
        results.append(result)
    return results


_NO_JSON = "is not a result, expected JSON"


def _result(line: str) -> tuple[dict[str, Any] | None, str]:
    """Returns the result that a line holds, or None and what is wrong with it."""
    try:
        result = json.loads(line)
    except ValueError:
        return None, _NO_JSON
    if not isinstance(result, dict) or result_value(result, ENV_STEPS) is None:
        return None, f"has no {ENV_STEPS}, expected a result of k24_rllib"
    return result, ""


def _point(trial: Path, result: Mapping[str, Any]) -> Point | None:
    """Returns the evaluation in a result, or None if it has none."""
    greedy = result_value(result, GREEDY_RETURN)
    steps, seconds, updates = (result_value(result, key) for key in (ENV_STEPS, SECONDS, UPDATES))
    if greedy is None or not math.isfinite(greedy):
        return None
    if seconds is None or steps is None:
        raise ConfigError(f"{trial / RESULTS_FILE}: an evaluation has no {SECONDS}, expected a result of RLlib's")
    return Point(int(steps), greedy, seconds, None if updates is None else int(updates))


def _metrics(results: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Reading, ...]]:
    """Returns the learner's metrics; iterations at which one is NaN or infinite are left out of it."""
    found: dict[str, list[Reading]] = {}
    for result in results:
        steps = result_value(result, ENV_STEPS)
        learner = _learner_metrics(result)
        for name in learner:
            value = result_value(learner, name)
            if value is None or steps is None:
                continue
            readings = found.setdefault(name, [])
            if math.isfinite(value):
                readings.append(Reading(int(steps), value))
    return {name: tuple(readings) for name, readings in found.items()}


def _learner_metrics(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what is under `LEARNER`; a result from before the first update may have nothing there."""
    inside: Any = result
    for part in LEARNER.split("/"):
        inside = inside.get(part) if isinstance(inside, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}


def _last_of_each_step(points: Sequence[Point]) -> tuple[Point, ...]:
    by_step = {point.env_steps: point for point in points}
    return tuple(by_step[step] for step in sorted(by_step))


def _check_evaluates(trial: Path, given: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    """Checks that a trial without evaluations so far is at least going to have some."""
    interval, iterations = given.get("evaluation_interval"), result_value(last, ITERATIONS) or 0
    if not interval:
        raise ConfigError(
            f"{trial}: has no greedy evaluation in {iterations:.0f} iterations, "
            "expected evaluation_interval in its config, as in evaluation_interval: 10"
        )
    if last.get("done"):
        raise ConfigError(
            f"{trial}: ended before its first greedy evaluation, after {iterations:.0f} iterations; "
            f"expected evaluation_interval below {interval}"
        )
