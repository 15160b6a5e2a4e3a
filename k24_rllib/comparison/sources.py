"""What is compared: runs that lie in directories and CSV files, and YAML files, which are run first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.methods import Comparison, check_metrics, compare_runs, unknown_metrics
from k24_rllib.comparison.points_csv import check_metric_names, read_points
from k24_rllib.comparison.runs import Run, find_trials, missing_path, read_trial
from k24_rllib.comparison.table import Budget, Table, aggregate_table, make_table
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
from k24_rllib.experiments.run import RunOptions

YAML = (".yaml", ".yml")
CSV = (".csv",)


@dataclass(frozen=True)
class CompareOptions:
    """What is read, and how YAML files are run."""

    metrics: Sequence[str] = ()
    """The learner's metrics to compare beside the greedy return, none twice."""
    seeds: str | None = None
    """In the words of the command line: `5` is 0 to 4, `3,7,9` is those. None is five."""
    out: str | None = None
    """Where results go, and what is finished already is read from; None is `~/ray_results/compare`."""
    set: Sequence[str] = ()
    """Laid over every file, as in `lr=1e-3`; `stop` too, as in `timesteps_total=100000`."""
    stop: Sequence[str] = ()
    concurrent: int = 1
    """Trials of a grid at once."""
    again: str = ""
    """The command line that goes on after Ctrl-C, to be told; nothing where there is none."""
    verbose: int = 0
    """Above 0, Ray's own messages are shown."""


@dataclass(frozen=True)
class Source:
    """One thing to compare: a path, and what to call the method that it holds."""

    path: Path
    label: str | None = None

    @property
    def is_yaml(self) -> bool:
        """Whether it has to be run first."""
        return not self.path.is_dir() and self.path.suffix in YAML


@dataclass(frozen=True)
class Gathered:
    """The runs to compare, after those of YAML files were run."""

    runs: list[Run]
    failed: list[str]
    """Names of what failed, which is not among the runs."""
    exit_code: int = 0
    """Other than 0 if the user stopped it, and nothing was gathered."""


def compare(sources: Sequence[str], options: CompareOptions | None = None) -> list[Comparison]:
    """Compares methods: one `Comparison` for each environment, from which tables and figures are made.

    What failed is said on stderr and left out.

    Args:
        sources: Directories of trials or experiments, CSV files of evaluations, or YAML files, which are run first as
            far as their runs are not finished. `NAME=PATH` gives a method a name.
        options: The metrics to read too, and how files are run.

    Raises:
        ConfigError: for what can't be read, run or compared.
        KeyboardInterrupt: if the user stopped a run; the next call goes on with it.
    """
    options = options or CompareOptions()
    check_metric_names(options.metrics)
    gathered = gather(sources, options)
    if gathered.exit_code:
        raise KeyboardInterrupt
    comparisons = compare_runs(gathered.runs)
    check_metrics(comparisons, options.metrics)
    return comparisons


def gather(sources: Sequence[str], options: CompareOptions) -> Gathered:
    """Reads the runs of `sources`, and runs YAML files first; see `compare`."""
    parsed = [parse_source(given) for given in sources]
    jobs = _plan(parsed, options)
    read = {source: _read(source, options.metrics) for source in parsed if not source.is_yaml}
    failed: list[str] = []
    if jobs:
        every = [job for planned in jobs.values() for job in planned]
        check_apart(every)
        others = [run for its in read.values() for run in its]
        watch = _MetricWatch(options.metrics, every, others)
        how = RunOptions(resume=True, verbose=options.verbose, max_concurrent=options.concurrent)
        code, failed = run_jobs(in_rounds(every), how, options.again, watch.take)
        if code:
            return Gathered([], failed, code)
    runs: list[Run] = []
    for source in parsed:
        runs += _read_jobs(jobs[source], failed) if source.is_yaml else read[source]
    return Gathered(_without_repetition(runs), failed)


def make_tables(
    comparisons: Sequence[Comparison], budget: Budget | None = None, metrics: Sequence[str] = ()
) -> list[Table]:
    """Returns a table for each environment and, last, one of their scores together where they can be compared."""
    tables = [make_table(comparison, budget or Budget(), metrics) for comparison in comparisons]
    together = aggregate_table(comparisons, tables)
    return tables if together is None else [*tables, together]


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
