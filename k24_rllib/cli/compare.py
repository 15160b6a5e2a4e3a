"""`rllib compare`: several methods and seeds, run or read, as a table and a figure with intervals."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser, optional_whole_number, whole_number
from k24_rllib.comparison.figure import draw
from k24_rllib.comparison.methods import Comparison, check_metrics, compare_runs
from k24_rllib.comparison.points_csv import check_metric_names, write_points
from k24_rllib.comparison.profile import draw_profiles, profiles
from k24_rllib.comparison.sources import CompareOptions, gather, make_tables
from k24_rllib.comparison.table import Budget, print_tables, write_json
from k24_rllib.comparison.training import DEFAULT_OUT, DEFAULT_SEEDS
from k24_rllib.experiments.ray_session import quiet_ray
from k24_rllib.reporting import output_file, print_error


@dataclass(frozen=True)
class Report:
    """Where runs are compared, and what is made of that."""

    budget: Budget
    metrics: Sequence[str]
    csv: Path | None
    json: Path | None
    figure: Path | None
    profile: Path | None
    """Where the performance profile over all tasks goes."""
    with_return: bool
    """Whether the greedy return is in the figure."""


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib compare`."""
    parser = Parser(
        prog=f"{program} compare",
        usage=f"{program} compare RUN_OR_YAML... [options]",
        description="Compare methods by the greedy returns of their runs: interquartile means with 95% bootstrap "
        "intervals. Directories and CSV files are read, YAML files are run first.",
        epilog="NAME=PATH gives a method a name. What is finished in --out is read and not run again. See "
        "docs/comparing.md for what is computed.",
    )
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="RUN_OR_YAML",
        help="a trial's or experiment's directory, a YAML file, or a CSV file that --csv wrote",
    )
    _add_running(parser, program)
    _add_where(parser)
    out = parser.add_argument_group("what to write")
    out.add_argument("--csv", metavar="FILE", help="every evaluation, from which all else can be made again")
    out.add_argument("--json", metavar="FILE", help="the table, with versions and machine")
    out.add_argument("--figure", metavar="FILE", help="learning curves with intervals, a PNG")
    out.add_argument(
        "--profile", metavar="FILE", help="which share of all runs reaches each score, over all tasks, a PNG"
    )
    out.add_argument("--no-return", action="store_true", help="a figure of the metrics alone")
    add_import(parser)
    parser.add_verbose()
    return parser


def _add_running(parser: Parser, program: str) -> None:
    """Adds the options about running YAML files."""
    running = parser.add_argument_group("running YAML files")
    running.add_argument(
        "--seeds", metavar="N", help=f"seeds 0 to N - 1, or a list as in 3,7,9 (default {DEFAULT_SEEDS})"
    )
    running.add_argument("--out", metavar="DIR", help=f"where results go, and may lie already (default {DEFAULT_OUT})")
    for name, example in (("set", "lr=1e-3"), ("stop", "timesteps_total=100000")):
        help_text = f"as in {program} train, for every file: --{name} {example}; may be repeated"
        running.add_argument(f"--{name}", action="append", default=[], metavar="KEY=VALUE", help=help_text)
    running.add_argument("--concurrent", default=1, metavar="N", help="trials of a grid at once (default %(default)s)")


def _add_where(parser: Parser) -> None:
    """Adds the options about what is compared."""
    where = parser.add_argument_group("what is compared")
    where.add_argument("--at", metavar="STEPS", help="environment steps (default: the last that every run has reached)")
    where.add_argument(
        "--window", metavar="STEPS", help="the mean of the evaluations in as many steps up to there (default: the last)"
    )
    where.add_argument(
        "--metric",
        dest="metrics",
        action="append",
        default=[],
        metavar="NAME",
        help="one of the learner's metrics beside the greedy return, as in --metric pattern_entropy (docs/metrics.md "
        "has them): in the table, the figure and the files; may be repeated",
    )


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib compare` and returns its exit code; whatever the user got wrong is found before anything runs."""
    arguments = make_parser(program).parse(words)
    if not arguments.sources:
        raise ConfigError(f"what to compare? expected {program} compare RUN_OR_YAML...")
    import_modules(arguments.modules)
    metrics = list(dict.fromkeys(arguments.metrics))
    options = CompareOptions(
        metrics=metrics,
        seeds=arguments.seeds,
        out=arguments.out,
        set=arguments.set,
        stop=arguments.stop,
        concurrent=whole_number("--concurrent", arguments.concurrent, low=1),
        again=shlex.join([program, "compare", *words]),
        verbose=arguments.verbose,
    )
    wanted = _report_options(arguments, metrics)
    if arguments.verbose == 0:
        quiet_ray()
    check_metric_names(metrics)
    if not wanted.with_return and not (wanted.figure and metrics):
        raise ConfigError("--no-return: is for a --figure with --metric, expected both")
    gathered = gather(arguments.sources, options)
    if gathered.exit_code:
        return gathered.exit_code
    _report(compare_runs(gathered.runs), wanted)
    if gathered.failed:
        print_error(f"{len(gathered.failed)} failed: {', '.join(gathered.failed)}")
    return 1 if gathered.failed else 0


def _report_options(arguments: argparse.Namespace, metrics: Sequence[str]) -> Report:
    """Returns what to report, once it is sure that its files can be written."""
    return Report(
        budget=Budget(
            at=optional_whole_number("--at", arguments.at, low=1),
            window=optional_whole_number("--window", arguments.window, low=1),
        ),
        metrics=metrics,
        csv=output_file("--csv", arguments.csv),
        json=output_file("--json", arguments.json),
        figure=output_file("--figure", arguments.figure),
        profile=output_file("--profile", arguments.profile),
        with_return=not arguments.no_return,
    )


def _report(comparisons: Sequence[Comparison], wanted: Report) -> None:
    """Prints the tables and writes the files that were asked for."""
    check_metrics(comparisons, wanted.metrics)
    tables = make_tables(comparisons, wanted.budget, wanted.metrics)
    print_tables(tables)
    if wanted.csv is not None:
        write_points(wanted.csv, comparisons, tables[: len(comparisons)], wanted.metrics)
    if wanted.json is not None:
        write_json(wanted.json, tables)
    if wanted.figure is not None:
        draw(comparisons, wanted.figure, wanted.metrics, with_return=wanted.with_return)
    if wanted.profile is not None:
        draw_profiles(profiles(tables[: len(comparisons)]), len(comparisons), wanted.profile)
    for file in (wanted.csv, wanted.json, wanted.figure, wanted.profile):
        if file is not None:
            print(f"wrote {file}")
