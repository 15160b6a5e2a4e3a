"""From runs to methods: the seeds of one configuration belong together, and only one environment's are compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from k24_rllib.checks import ConfigError, nearest
from k24_rllib.comparison.runs import Environment, Run
from k24_rllib.experiments.evaluate import score_reference


@dataclass(frozen=True)
class Method:
    """The runs of one configuration in one environment."""

    name: str
    runs: tuple[Run, ...]
    """In the order of their seeds, no seed twice."""

    def reporting(self, metric: str | None) -> Method:
        """Returns the method with only those runs that have a value of a metric, or a greedy return for None."""
        return replace(self, runs=tuple(run for run in self.runs if run.readings(metric)))


@dataclass
class Comparison:
    """The methods of one environment, the first being what others are compared with."""

    environment: Environment
    methods: list[Method]
    reference: tuple[float, float] | None = None
    """Returns of a random and of a scripted policy, the 0 and 1 of the score, where they are known."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures must know of the runs, a line each."""


def compare_runs(runs: Sequence[Run]) -> list[Comparison]:
    """Groups runs by environment and by configuration without the seed, in the order in which they were given.

    Runs of one configuration and seed repeat each other: the one that got furthest is taken. Those that failed, or were
    not evaluated yet, are left out, and a note names each.

    Raises:
        ConfigError: if no run is left, or if two methods of an environment have the same name.
    """
    comparisons: list[Comparison] = []
    notes_elsewhere = [_failure_note(run.label, run) for run in runs if not run.was_built]
    built = [run for run in runs if run.was_built]
    for environment in dict.fromkeys(run.environment for run in built):
        notes: list[str] = []
        inside = [run for run in built if run.environment == environment]
        begun: list[Run] = []
        for run in inside:
            if run.points or run.failure is not None:
                begun.append(run)
            else:
                notes.append(f"left out, no evaluation yet: {run.source}")
        methods = []
        for name, group in _named_groups(begun):
            whole = _without_failed(name, group, notes)
            if whole:
                methods.append(Method(name, _one_of_each_seed(name, whole, notes)))
        if methods:
            comparisons.append(Comparison(environment, methods, _reference(environment), notes))
        else:
            notes_elsewhere += [f"{environment}: {note}" for note in notes]
    if not comparisons:
        raise _nothing_to_compare(runs)
    comparisons[0].notes += notes_elsewhere
    return comparisons


def _without_failed(name: str, runs: Sequence[Run], notes: list[str]) -> list[Run]:
    """Returns the runs that did not fail: how far one got before an error is no measure of its method."""
    whole = [run for run in runs if run.failure is None]
    notes += [_failure_note(name, run) for run in runs if run.failure is not None]
    if not whole:
        notes.append(f"{name}: is not in the table, as every trial of it failed")
    return whole


def _failure_note(name: str, run: Run) -> str:
    """Returns what to say of a run that failed: when, and which of its files says why."""
    if not run.was_built:
        place = "as it was built"
    elif run.points:
        place = f"after its evaluation at {run.last_step:,} steps"
    else:
        place = "before its first evaluation"
    reason = f" ({run.failure.name} says why)" if run.failure else ""
    return f"{name}: left out, failed {place}: {run.source}{reason}"


def _nothing_to_compare(runs: Sequence[Run]) -> ConfigError:
    """Returns the error for runs of which none was evaluated and did not fail."""
    young = next((run for run in runs if run.failure is None), None)
    if young is None:
        return ConfigError(f"every trial failed, so there is nothing to compare; {runs[0].failure} says why")
    return ConfigError(f"{young.source}: has no greedy evaluation yet, expected a run that was evaluated")


def unknown_metrics(runs: Sequence[Run], metrics: Iterable[str]) -> list[str]:
    """Returns a line for each of `metrics` that none of the runs reports, with the nearest that they do report."""
    known = {name for run in runs for name in run.metrics}
    lines = []
    for metric in metrics:
        if metric not in known:
            hint = nearest(metric, sorted(known)) if known else "; they have reported no metric yet"
            lines.append(
                f"--metric {metric}: none of the runs reports it, expected a metric of the learner "
                f"(docs/metrics.md has them){hint}"
            )
    return lines


def check_metrics(comparisons: Sequence[Comparison], metrics: Sequence[str]) -> None:
    """Checks that each of `metrics` has a value in some run.

    Raises:
        ConfigError: naming the one that has none, and the nearest that runs report.
    """
    runs = [run for comparison in comparisons for method in comparison.methods for run in method.runs]
    unknown = unknown_metrics(runs, metrics)
    if unknown:
        raise ConfigError(unknown[0])
    for metric in metrics:
        if not any(run.readings(metric) for run in runs):
            raise ConfigError(f"--metric {metric}: no run has a value of it yet, expected a number at some iteration")


def _named_groups(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Returns the runs of each configuration and the method's name: what differs is added to labels that don't."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in _with_algorithms(runs):
        groups.setdefault((run.label, _fingerprint(run)), []).append(run)
    named = []
    for label in dict.fromkeys(label for label, _ in groups):
        variants = [group for (other, _), group in groups.items() if other == label]
        names = [label] if len(variants) == 1 else [f"{label} ({_difference(group, variants)})" for group in variants]
        named += list(zip(names, variants, strict=True))
    _check_names(named)
    return named


def _with_algorithms(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs; one whose algorithm is not known takes the only one of its label and settings, if it can."""

    def alike(run: Run) -> tuple[str, str]:
        return run.label, _fingerprint(replace(run, algorithm=None))

    known: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        if run.algorithm is not None:
            known.setdefault(alike(run), set()).add(run.algorithm)
    completed = []
    for run in runs:
        names = known.get(alike(run), set())
        completed.append(replace(run, algorithm=next(iter(names))) if len(names) == 1 else run)
    return completed


def _fingerprint(run: Run) -> str:
    """Returns the same text for all runs of a configuration; of a CSV file, whose configurations nobody knows, all."""
    if run.directory is None:
        return run.source
    return json.dumps([run.algorithm, run.settings], sort_keys=True, default=str)


def _difference(group: Sequence[Run], variants: Iterable[Sequence[Run]]) -> str:
    """Returns the settings in which a configuration differs from others of its name, as in `div_coef=0.5`."""
    mine = group[0]
    if mine.directory is None:
        return Path(mine.source).name
    firsts = [runs[0] for runs in variants if runs[0].directory is not None]
    parts = [mine.algorithm or "?"] if len({run.algorithm for run in firsts}) > 1 else []
    keys = sorted({key for run in firsts for key in run.settings})
    for key in keys:
        values = {json.dumps(run.settings.get(key), sort_keys=True, default=str) for run in firsts}
        if len(values) > 1:
            value = mine.settings.get(key, "default")
            parts.append(f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}")
    return ", ".join(parts) or str(mine.directory.parent)


def _check_names(named: Sequence[tuple[str, Sequence[Run]]]) -> None:
    """Checks that no two methods have one name, as those of two CSV files can."""
    seen: dict[str, Run] = {}
    for name, group in named:
        if name in seen:
            raise ConfigError(
                f"two methods are called {name!r}: {seen[name].source} and {group[0].source}; "
                "expected NAME=PATH for one of them"
            )
        seen[name] = group[0]


def _one_of_each_seed(name: str, runs: Sequence[Run], notes: list[str]) -> tuple[Run, ...]:
    """Returns one run per seed, in order; runs that were given no seed are different ones, numbered from -1 down."""
    by_seed: dict[int, list[Run]] = {}
    unseeded = 0
    for run in runs:
        if run.seed is None:
            unseeded -= 1
        by_seed.setdefault(unseeded if run.seed is None else run.seed, []).append(run)
    for seed, same in by_seed.items():
        if len(same) > 1:
            notes.append(f"{name}: seed {seed} is there {len(same)} times, took the run that got furthest")
    return tuple(replace(max(by_seed[seed], key=_extent), seed=seed) for seed in sorted(by_seed))


def _extent(run: Run) -> tuple[int, int]:
    """Returns how far a run got, and of equal ones, how new it is."""
    return run.last_step, run.directory.stat().st_mtime_ns if run.directory is not None else 0


def _reference(environment: Environment) -> tuple[float, float] | None:
    """Returns the score's reference, or None where the environment has none or is not known here."""
    try:
        return score_reference(environment.name, environment.config)
    except ConfigError:
        return None
