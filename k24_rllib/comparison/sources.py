"""`rllib compare`: several methods and seeds, run or read, as a table and a figure with intervals."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.methods import Comparison, check_metrics, compare_runs, unknown_metrics
from k24_rllib.comparison.points_csv import check_metric_names, read_points, write_points
from k24_rllib.comparison.runs import Run, find_trials, missing_path, read_trial
from k24_rllib.comparison.table import Budget, aggregate_table, make_table, print_tables, write_json
from k24_rllib.comparison.training import (
    DEFAULT_SEEDS,
    Job,
    check_apart,
    check_out,
    in_rounds,
    parse_seeds,
    plan_jobs,
    run_jobs,
)
from k24_rllib.experiments.experiment import Overrides
from k24_rllib.experiments.ray_session import quiet_ray
from k24_rllib.experiments.run import TrainOptions

YAML = (".yaml", ".yml")
CSV = (".csv",)


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and where to write it."""

    program: str
    words: Sequence[str]
    """The command line after `compare`, to be repeated."""
    sources: Sequence[str]
    seeds: str | None = None
    out: str | None = None
    set: Sequence[str] = ()
    stop: Sequence[str] = ()
    concurrent: int = 1
    budget: Budget = field(default_factory=Budget)
    csv: Path | None = None
    json: Path | None = None
    figure: Path | None = None
    metrics: Sequence[str] = ()
    """The learner's metrics to compare beside the greedy return, none twice."""
    no_return: bool = False
    """Whether the figure leaves the greedy return out."""
    verbose: int = 0


@dataclass(frozen=True)
class Source:
    """One argument: a path, and what to call the method that it holds."""

    path: Path
    label: str | None = None

    @property
    def is_yaml(self) -> bool:
        """Whether it has to be run first."""
        return not self.path.is_dir() and self.path.suffix in YAML


def run_compare(options: CompareOptions) -> int:
    """Runs `rllib compare` and returns its exit code; whatever the user got wrong is found before anything runs."""
    if options.verbose == 0:
        quiet_ray()
    check_metric_names(options.metrics)
    if options.no_return and not (options.figure and options.metrics):
        raise ConfigError("--no-return: is for a --figure with --metric, expected both")
    sources = [parse_source(given) for given in options.sources]
    jobs = _plan(sources, options)
    read = {source: _read(source, options.metrics) for source in sources if not source.is_yaml}
    failed: list[str] = []
    if jobs:
        every = [job for planned in jobs.values() for job in planned]
        check_apart(every)
        others = [run for its in read.values() for run in its]
        watch = _MetricWatch(options.metrics, every, others)
        code, failed = run_jobs(in_rounds(every), _train_options(options), lambda: _again(options), watch.take)
        if code:
            return code
    runs: list[Run] = []
    for source in sources:
        runs += _read_jobs(jobs[source], failed) if source.is_yaml else read[source]
    _report(compare_runs(_without_repetition(runs)), options)
    if failed:
        print(f"rllib: error: {len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def parse_source(given: str) -> Source:
    """Returns what an argument means: a path, or `NAME=PATH` with the method's name (trials' paths have `=` too).

    Raises:
        ConfigError: if there is nothing at that path, or something that can't be compared.
    """
    label, equals, rest = given.partition("=")
    named = bool(equals and label.strip() and "/" not in label and not Path(given).exists())
    path = Path(rest if named else given).expanduser()
    if not path.exists():
        raise missing_path(str(path))
    if not path.is_dir() and path.suffix not in (*YAML, *CSV):
        raise ConfigError(f"{path}: expected a run's directory, a YAML file or a CSV file of evaluations")
    return Source(path, label.strip() if named else None)


def _plan(sources: Sequence[Source], options: CompareOptions) -> dict[Source, list[Job]]:
    """Returns what each YAML file asks for, and checks that there is one where options are about running."""
    files = [source for source in sources if source.is_yaml]
    if not files:
        for name in ("seeds", "out", "set", "stop"):
            if getattr(options, name):
                raise ConfigError(f"--{name}: is for YAML files, which are run, and none is given")
        return {}
    seeds, out = parse_seeds(options.seeds or DEFAULT_SEEDS), check_out(options.out)
    overrides = Overrides(set=options.set, stop=options.stop)
    return {file: plan_jobs(file.path, file.label, seeds, overrides, out) for file in files}


def _read(source: Source, metrics: Sequence[str]) -> list[Run]:
    """Reads the runs that lie in a directory or CSV file."""
    if not source.path.is_dir():
        return read_points(source.path, source.label, metrics)
    return [read_trial(trial, source.label) for trial in find_trials(source.path)]


def _read_jobs(jobs: Sequence[Job], failed: Sequence[str]) -> list[Run]:
    """Reads the runs of a YAML file; those that failed are left out."""
    done = [job for job in jobs if job.name not in failed]
    return [read_trial(trial, job.label) for job in done for trial in find_trials(job.directory)]


class _MetricWatch:
    """Warns of a metric that nobody reports once a run of each experiment is finished, not when all are.

    No more than warns: an algorithm or callback of the user's may report it in another run.
    """

    def __init__(self, metrics: Sequence[str], jobs: Sequence[Job], runs: Sequence[Run]) -> None:
        """Takes the metrics asked for, all jobs, and the runs that need no running."""
        self._metrics = metrics
        self._missing = {job.directory.parent for job in jobs} if metrics else set()
        self._runs = list(runs)

    def take(self, job: Job) -> None:
        """Looks at a finished job, if it is the first of its experiment."""
        if job.directory.parent not in self._missing:
            return
        try:
            self._runs += _read_jobs([job], failed=())
        except ConfigError:  # is reported when all jobs are finished
            return
        self._missing.remove(job.directory.parent)
        if not self._missing:
            for line in unknown_metrics(self._runs, self._metrics):
                print(f"rllib: warning: after a run of each experiment: {line}", file=sys.stderr, flush=True)


def _without_repetition(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs without those that were named twice, as by an experiment and by a trial of it."""
    unique: dict[object, Run] = {}
    for run in runs:
        inside = (run.environment, run.label, run.seed) if run.directory is None else ()
        unique.setdefault((Path(run.source).resolve(), inside), run)
    if not unique:
        raise ConfigError("every run failed, so there is nothing to compare")
    return list(unique.values())


def _report(comparisons: Sequence[Comparison], options: CompareOptions) -> None:
    """Prints the tables and writes the files that were asked for."""
    check_metrics(comparisons, options.metrics)
    tables = [make_table(comparison, options.budget, options.metrics) for comparison in comparisons]
    together = aggregate_table(comparisons, tables)
    shown = tables if together is None else [*tables, together]
    print_tables(shown)
    if options.csv is not None:
        write_points(options.csv, comparisons, tables, options.metrics)
    if options.json is not None:
        write_json(options.json, shown)
    if options.figure is not None:
        from k24_rllib.comparison.figure import draw

        draw(comparisons, options.figure, options.metrics, with_return=not options.no_return)
    for file in (options.csv, options.json, options.figure):
        if file is not None:
            print(f"wrote {file}")


def _train_options(options: CompareOptions) -> TrainOptions:
    return TrainOptions(
        program=options.program,
        file=Path(),
        overrides=Overrides(),
        resume=True,
        verbose=options.verbose,
        max_concurrent=options.concurrent,
    )


def _again(options: CompareOptions) -> str:
    return shlex.join([options.program, "compare", *options.words])
