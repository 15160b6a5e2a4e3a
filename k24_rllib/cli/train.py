"""`rllib train`: run a file's experiments, then say how good each trial's last checkpoint is."""

from __future__ import annotations

import argparse
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.cli.modules import add_import, import_modules, import_words
from k24_rllib.command_line import Parser, optional_whole_number, whole_number
from k24_rllib.experiments.checkpoints import find_checkpoint
from k24_rllib.experiments.cluster import find_cluster
from k24_rllib.experiments.evaluate import evaluate_checkpoint
from k24_rllib.experiments.experiment import Experiment, Overrides, read_experiments
from k24_rllib.experiments.ray_session import LOOPBACK, check_dashboard_host, quiet_ray
from k24_rllib.experiments.resume import check_resume
from k24_rllib.experiments.run import RunOptions, check_experiments, ray_for, run_experiment
from k24_rllib.experiments.stopping import ENV_STEPS, SECONDS, result_value
from k24_rllib.experiments.storage import FullDiskError
from k24_rllib.reporting import duration, print_error

EPILOG = """\
The file has the format of RLlib's tuned examples:

  k24-spread:
    run: K24QMix                       # or QMix, KaleidoscopeQMix
    env: mpe_simple_spread
    stop: {timesteps_total: 500000}
    num_samples: 1
    checkpoint_config: {checkpoint_frequency: 10, num_to_keep: 3}
    config:
      env_config: {N: 3}
      lr: 5e-4                         # or {grid_search: [1e-4, 5e-4]}, or {loguniform: [1e-4, 1e-2]}
    tune:                              # a search over what config leaves open, see docs/search.md
      metric: greedy_return            # or score, or a result key
      search_alg: optuna               # or random, grid, ...
      scheduler: asha                  # or fifo, median, hyperband, pbt, pb2
      num_samples: 16

Everything in it is checked before Ray starts. Ctrl-C finishes the iteration, saves a checkpoint and says how to go
on; a second Ctrl-C leaves at once.

exit codes: 0 done, 1 a trial failed, 2 bad input, 130 stopped by Ctrl-C (143 by SIGTERM, 129 by SIGHUP)
"""


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib train`."""
    parser = Parser(
        prog=f"{program} train",
        usage=f"{program} train -f FILE [options]\n       {program} train file FILE [options]",
        description="Train a YAML file's experiments through Ray Tune, then evaluate each trial's last checkpoint.",
        epilog=EPILOG,
    )
    parser.add_argument("positional", nargs="?", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("-f", "--file", metavar="FILE", help="the YAML file")
    _add_changes(parser)
    parser.add_argument("--check", action="store_true", help="only check everything that can be checked, and leave")
    parser.add_argument(
        "--no-report", action="store_true", help="write no report.html at the end (in the file: report: false)"
    )
    start = parser.add_argument_group("where to start from")
    start.add_argument(
        "--restore", metavar="CHECKPOINT", help="start every trial from this checkpoint, counting its steps as done"
    )
    start.add_argument(
        "--resume", action="store_true", help="go on with an interrupted or failed run of this file, as it was begun"
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="join the Ray cluster whose head answers at host:port, or of which this machine is a node (auto); "
        "default: RAY_ADDRESS if set, else Ray starts on this machine",
    )
    machine.add_argument("--dashboard", action="store_true", help="start Ray's dashboard too, and print its address")
    machine.add_argument(
        "--dashboard-host",
        metavar="HOST",
        help=f"address of this machine where the dashboard listens (default: {LOOPBACK}, which only this machine "
        "reaches)",
    )
    add_import(parser)
    parser.add_verbose()
    return parser


def _add_changes(parser: Parser) -> None:
    """Adds the options that are laid over the file."""
    change = parser.add_argument_group("changing what the file says")
    change.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a config value, as in --set lr=1e-3 or --set env_config.N=6; may be repeated",
    )
    change.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a stop value, as in --stop "
        "timesteps_total=100000, or several as a JSON object; the file's other stop values stay",
    )
    change.add_argument("--seed", metavar="N[,N...]", help="the seed; several make one trial each")
    change.add_argument("--num-samples", metavar="N", help="trials per point of the grid")
    change.add_argument(
        "--checkpoint-freq", metavar="N", help="iterations between checkpoints (0: only as the file says at the end)"
    )
    change.add_argument(
        "--storage-path",
        metavar="DIR",
        help="where results go, a directory or URI (default: the file's, or "
        "~/ray_results); each experiment gets a directory of its name there",
    )


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib train` and returns its exit code; whatever the user got wrong is found before Ray starts."""
    arguments = _parse(program, words)
    overrides = _overrides(arguments)
    began = time.monotonic()
    if arguments.verbose == 0:
        quiet_ray()
    options = _run_options(arguments)
    if options.cluster is not None:
        find_cluster(options.cluster)  # first, as it takes less time than all that follows
    experiments = read_experiments(arguments.file, overrides)
    if options.resume:
        check_resume(experiments)
    if arguments.check:
        check_experiments(experiments, options)
        print(f"{arguments.file}: settings are fine ({', '.join(experiment.name for experiment in experiments)})")
        return 0
    with ray_for(experiments, options):
        for experiment in experiments:
            code = _train(experiment, options, program, arguments)
            if code:
                return code
    print(f"\n{duration(time.monotonic() - began)} in all")
    return 0


def _run_options(arguments: argparse.Namespace) -> RunOptions:
    """Returns how to run, with what the words say of the dashboard checked."""
    options = RunOptions(
        resume=arguments.resume,
        ray_address=arguments.ray_address,
        dashboard=arguments.dashboard,
        verbose=arguments.verbose,
        modules=arguments.modules,
    )
    host = arguments.dashboard_host
    if host is not None and not arguments.dashboard:
        raise ConfigError(f"--dashboard-host: got {host!r} without --dashboard, expected both")
    if host is not None and options.cluster is not None:
        raise ConfigError(f"--dashboard-host: got {host!r} with a cluster to join, which has its dashboard already")
    return replace(options, dashboard_host=check_dashboard_host(host)) if host is not None else options


def _parse(program: str, words: Sequence[str]) -> argparse.Namespace:
    """Returns the words after `rllib train` as arguments with the file under `file`, the user's modules imported."""
    words = list(words)
    if words[:1] == ["file"] and len(words) > 1:  # the old form, `rllib train file FILE`
        words = words[1:]
    arguments = make_parser(program).parse(words)
    import_modules(arguments.modules)
    if not arguments.file and arguments.positional is None:
        raise ConfigError(f"which file? expected {program} train -f FILE")
    if arguments.file and arguments.positional:
        raise ConfigError(f"unexpected argument {arguments.positional!r}, as -f {arguments.file} names the file")
    arguments.file = arguments.file or arguments.positional
    _check_resume_alone(arguments)
    return arguments


def _check_resume_alone(arguments: argparse.Namespace) -> None:
    """Checks that nothing changes a run that goes on as it was begun."""
    if not arguments.resume:
        return
    for name in ("set", "stop", "seed", "num_samples", "checkpoint_freq", "restore"):
        if getattr(arguments, name):
            raise ConfigError(
                f"--{name.replace('_', '-')}: --resume goes on with a run as it was begun; expected --restore "
                "CHECKPOINT to start a changed one from its checkpoint"
            )


def _overrides(arguments: argparse.Namespace) -> Overrides:
    """Returns what the options change in the file."""
    return Overrides(
        set=arguments.set,
        stop=arguments.stop,
        seeds=[whole_number("--seed", part, low=0) for part in arguments.seed.split(",")] if arguments.seed else (),
        num_samples=optional_whole_number("--num-samples", arguments.num_samples, low=1),
        storage_path=arguments.storage_path,
        restore=arguments.restore,
        checkpoint_freq=optional_whole_number("--checkpoint-freq", arguments.checkpoint_freq, low=0),
    )


def _train(experiment: Experiment, options: RunOptions, program: str, arguments: argparse.Namespace) -> int:
    """Runs one experiment to its end, prints what came out, and returns the exit code."""
    if experiment.tune is not None and experiment.tune.takes_turns:
        print(f"note: {experiment.tune.scheduler} pauses trials, so their checkpoints hold the replay buffer")
    print(
        f"{experiment.name}: {experiment.run} on {experiment.config['env']}, results in {experiment.directory}",
        flush=True,
    )
    if not experiment.stop and experiment.time_budget_s is None:
        print("note: the file gives no stop, so this runs until Ctrl-C")
    try:
        outcome = run_experiment(experiment, options)
    except FullDiskError as error:
        print_error(str(error))
        print(f"go on with     {_resume_command(program, arguments)}", flush=True)
        return 1
    rows = _report_search(experiment, outcome.trials) if experiment.tune is not None else []
    if outcome.stopped_by is not None:
        print(f"\n{experiment.name}: stopped by {signal.Signals(outcome.stopped_by).name}")
        _print_saved(outcome.trials)
        print(f"go on with     {_resume_command(program, arguments)}", flush=True)
        return 128 + outcome.stopped_by  # as shells expect it
    best = [row for row in rows if row.trial in outcome.finished][:1]
    for trial in outcome.finished if experiment.tune is None else [row.trial for row in best]:
        _print_result(trial, program, arguments.modules)
    for row in best:
        _print_winner(experiment, row, program, arguments)
    _print_saved([trial for trial in outcome.failed if trial.checkpoint is not None])
    if experiment.report and not arguments.no_report:
        _write_report(experiment.local_directory)
    problems = outcome.problems()
    if problems:
        print(f"go on with     {_resume_command(program, arguments)}", flush=True)
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def _write_report(directory: Path | None) -> None:
    """Writes the page about an experiment's results, where these are on this machine."""
    if directory is None:
        return
    from k24_rllib.report import write_after_training

    file = write_after_training(directory)
    if file is not None:
        print(f"report         {file}", flush=True)


def _report_search(experiment: Experiment, trials: Sequence[Any]) -> Sequence[Any]:
    """Prints what a search has found so far and writes its table and picture; returns its trials, the best first."""
    from k24_rllib.experiments.search_report import make_rows, print_search, write_search

    rows = make_rows(experiment, trials)
    print_search(experiment, rows)
    if experiment.local_directory is not None:
        print("\n".join(write_search(experiment, rows, experiment.local_directory)), flush=True)
    return rows


def _print_winner(experiment: Experiment, row: Any, program: str, arguments: argparse.Namespace) -> None:
    """Prints the command that trains a search's best trial again; a population's best has no settings of its own."""
    from k24_rllib.experiments.search_report import winner_words

    if experiment.tune is not None and experiment.tune.population:
        print(f"its settings   changed on the way: pbt_policy_*.txt in {experiment.directory} have them")
        return
    words = [program, "train", "-f", str(Path(arguments.file))]
    for option in ("set", "stop"):
        words += [word for given in getattr(arguments, option) for word in (f"--{option}", given)]
    if arguments.checkpoint_freq:
        words += ["--checkpoint-freq", arguments.checkpoint_freq]
    words += winner_words(experiment, row)
    print(f"train it       {shlex.join([*words, *import_words(arguments.modules)])}", flush=True)


def _print_saved(trials: Sequence[Any]) -> None:
    """Prints where interrupted or failed trials were saved last."""
    for trial in trials:
        if trial.checkpoint is not None:
            print(f"checkpoint     {trial.checkpoint.path}")
        elif not trial.has_reported_at_least_once:
            print(f"no checkpoint  {trial} had not begun its first iteration")


def _resume_command(program: str, arguments: argparse.Namespace) -> str:
    """Returns the command line that goes on with an interrupted run."""
    words = [program, "train", "-f", str(Path(arguments.file))]
    if arguments.storage_path:
        words += ["--storage-path", arguments.storage_path]
    return shlex.join([*words, *import_words(arguments.modules), "--resume"])


def _print_result(trial: Any, program: str, modules: Sequence[str]) -> None:
    """Evaluates a finished trial's last checkpoint and prints the result, and the command line that repeats it."""
    result = trial.last_result or {}
    steps, seconds = result_value(result, ENV_STEPS) or 0, result_value(result, SECONDS) or 0
    print(f"\n{trial} finished: {steps:,.0f} environment steps in {duration(seconds)} of training")
    restarts = (result.get("info") or {}).get("num_worker_restarts")
    if restarts:
        print(f"restarts       {restarts} of workers or environments that failed")
    if trial.checkpoint is None:
        print("no checkpoint was asked for, so there is none to evaluate")
        return
    checkpoint = find_checkpoint(trial.checkpoint.path)
    print(f"checkpoint     {checkpoint}", flush=True)
    for line in evaluate_checkpoint(checkpoint).lines():
        print(line)
    again = [program, "evaluate", str(checkpoint), *import_words(modules)]
    print(f"evaluate it    {shlex.join(again)}", flush=True)
