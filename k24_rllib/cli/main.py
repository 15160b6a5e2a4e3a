"""The command line: `rllib train`, `evaluate`, `compare` and `bench`; `k24` is another name of the same program."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from k24_rllib.checks import ConfigError, check_name, nearest

HELP = """\
usage: {program} train -f FILE [options]
       {program} evaluate CHECKPOINT [options]
       {program} compare RUN_OR_YAML... [options]
       {program} bench [WHAT ...] [options]

QMIX, K-2:4 QMIX (learned per-agent 2:4 sparsity) and its baselines on Ray RLlib.

commands:
  train       train what a YAML file describes, through Ray Tune
  evaluate    play greedy episodes with a checkpoint and print the return
  compare     several methods and seeds, run or read: a table and a figure with intervals
  bench       time environments, rollouts, updates and training (in a checkout)

  {program} COMMAND --help   says more about a command
  {program} --version        prints the version

example:
  {program} train -f tuned_examples/k24_spread.yaml
"""

TRAIN_EPILOG = """\
The file has the format of RLlib's tuned examples:

  k24-spread:
    run: K24QMix                       # or QMix, KaleidoscopeQMix
    env: mpe_simple_spread
    stop: {timesteps_total: 500000}
    num_samples: 1
    checkpoint_config: {checkpoint_frequency: 10, num_to_keep: 3}
    config:
      env_config: {N: 3}
      lr: 5e-4                         # or {grid_search: [1e-4, 5e-4]}

Everything in it is checked before Ray starts. Ctrl-C finishes the iteration, saves a checkpoint and says how to go
on; a second Ctrl-C leaves at once.

exit codes: 0 done, 1 a trial failed, 2 bad input, 130 stopped by Ctrl-C (143 by SIGTERM)
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports errors as one line, like the rest of the program."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            **keywords, add_help=False, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.add_argument("-h", "--help", action="help", help="show this help and leave")

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and leaving."""
        raise ConfigError(f"{message} (see {self.prog} --help)")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parses `words`, options and the file in any order."""
        arguments, unknown = self.parse_known_intermixed_args(list(words))
        if unknown:
            name = unknown[0].partition("=")[0]
            options = re.findall(r"--[a-z-]+", self.format_help())
            hint = nearest(name, options) if name.startswith("-") else ""
            raise ConfigError(f"unexpected argument {unknown[0]!r}{hint or f' (see {self.prog} --help)'}")
        return arguments


def train_parser(program: str) -> _Parser:
    """Returns the parser of `rllib train`."""
    parser = _Parser(
        prog=f"{program} train",
        usage=f"{program} train -f FILE [options]\n       {program} train file FILE [options]",
        description="Train a YAML file's experiments through Ray Tune, then evaluate each trial's last checkpoint.",
        epilog=TRAIN_EPILOG,
    )
    parser.add_argument("positional", nargs="?", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("-f", "--file", metavar="FILE", help="the YAML file")
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
        help="join this Ray cluster (default: RAY_ADDRESS if set, else a new one on this machine)",
    )
    machine.add_argument("--dashboard", action="store_true", help="start Ray's dashboard too")
    _add_common(parser)
    return parser


def evaluate_parser(program: str) -> _Parser:
    """Returns the parser of `rllib evaluate`."""
    from k24_rllib.experiments.evaluate import DEFAULT_EPISODES, DEFAULT_SEED

    parser = _Parser(
        prog=f"{program} evaluate",
        usage=f"{program} evaluate CHECKPOINT [options]",
        description="Play greedy episodes (no exploration, most likely masks) with a checkpoint's policy.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="a checkpoint's directory, or a trial's or experiment's, whose newest checkpoint is taken",
    )
    parser.add_argument(
        "--episodes", default=DEFAULT_EPISODES, metavar="N", help=f"episodes to play (default {DEFAULT_EPISODES})"
    )
    parser.add_argument(
        "--seed",
        default=DEFAULT_SEED,
        metavar="N",
        help=f"seed of the environments; the same seed gives the same episodes (default {DEFAULT_SEED})",
    )
    _add_common(parser)
    return parser


def bench_parser(program: str) -> _Parser:
    """Returns the parser of `rllib bench`."""
    from k24_rllib.cli.bench import BENCHMARKS, USUAL, BenchOptions

    parser = _Parser(
        prog=f"{program} bench",
        usage=f"{program} bench [WHAT ...] [options]",
        description="Time the code beside the arithmetic floor, the dense baseline and mpe2, everything in turn.",
        epilog="Nothing else should run on the machine meanwhile. See docs/performance.md for what is measured.",
    )
    parser.add_argument(
        "what", nargs="*", metavar="WHAT", help=f"any of {', '.join(BENCHMARKS)} (default: {', '.join(USUAL)})"
    )
    size = parser.add_argument_group("sizes (simple_spread; the targets hold for the default ones)")
    size.add_argument("--agents", default=BenchOptions.agents, metavar="N", help="agents (default %(default)s)")
    size.add_argument("--hidden", default=BenchOptions.hidden, metavar="H", help="hidden units (default %(default)s)")
    size.add_argument("--copies", metavar="N", help="environment copies (default 32 in environment, else 64)")
    size.add_argument(
        "--threads", default=BenchOptions.threads, metavar="N", help="PyTorch's threads (default %(default)s)"
    )
    effort = parser.add_argument_group("how long")
    effort.add_argument("--repeats", metavar="N", help="turns of each measurement (default: as many as it needs)")
    effort.add_argument(
        "--seconds", default=BenchOptions.seconds, metavar="S", help="end-to-end: seconds a turn (default %(default)g)"
    )
    effort.add_argument("--quick", action="store_true", help="as little as shows that it works; no figures to quote")
    out = parser.add_argument_group("what to write")
    out.add_argument("--json", metavar="FILE", help="everything measured, with versions and machine")
    out.add_argument("--figure", metavar="FILE", help="the scaling study's figure, a PNG")
    _add_verbose(parser)
    return parser


def compare_parser(program: str) -> _Parser:
    """Returns the parser of `rllib compare`."""
    from k24_rllib.comparison.training import DEFAULT_OUT, DEFAULT_SEEDS

    parser = _Parser(
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
    running = parser.add_argument_group("running YAML files")
    running.add_argument(
        "--seeds", metavar="N", help=f"seeds 0 to N - 1, or a list as in 3,7,9 (default {DEFAULT_SEEDS})"
    )
    running.add_argument("--out", metavar="DIR", help=f"where results go, and may lie already (default {DEFAULT_OUT})")
    for name, example in (("set", "lr=1e-3"), ("stop", "timesteps_total=100000")):
        help_text = f"as in {program} train, for every file: --{name} {example}; may be repeated"
        running.add_argument(f"--{name}", action="append", default=[], metavar="KEY=VALUE", help=help_text)
    running.add_argument("--concurrent", default=1, metavar="N", help="trials of a grid at once (default %(default)s)")
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
    out = parser.add_argument_group("what to write")
    out.add_argument("--csv", metavar="FILE", help="every evaluation, from which all else can be made again")
    out.add_argument("--json", metavar="FILE", help="the table, with versions and machine")
    out.add_argument("--figure", metavar="FILE", help="learning curves with intervals, a PNG")
    out.add_argument("--no-return", action="store_true", help="a figure of the metrics alone")
    _add_common(parser)
    return parser


def _add_common(parser: _Parser) -> None:
    """Adds what every command takes."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module first, which registers environments of your own; may be repeated",
    )
    _add_verbose(parser)


def _add_verbose(parser: _Parser) -> None:
    """Adds `-v`."""
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="show Ray's own output; -vv also tracebacks of errors"
    )


def _train(program: str, words: Sequence[str]) -> int:
    """Parses the words after `rllib train` and trains."""
    words = list(words)
    if words[:1] == ["file"] and len(words) > 1:  # the old form, `rllib train file FILE`
        words = words[1:]
    arguments = train_parser(program).parse(words)
    _import_modules(arguments.modules)
    file = arguments.file or arguments.positional
    if file is None:
        raise ConfigError(f"which file? expected {program} train -f FILE")
    if arguments.file and arguments.positional:
        raise ConfigError(f"unexpected argument {arguments.positional!r}, as -f {arguments.file} names the file")
    _check_resume_alone(arguments)

    from k24_rllib.experiments.experiment import Overrides
    from k24_rllib.experiments.run import TrainOptions, run_train

    overrides = Overrides(
        set=arguments.set,
        stop=arguments.stop,
        seeds=[_whole("--seed", part, low=0) for part in arguments.seed.split(",")] if arguments.seed else (),
        num_samples=_optional_whole("--num-samples", arguments.num_samples, low=1),
        storage_path=arguments.storage_path,
        restore=arguments.restore,
        checkpoint_freq=_optional_whole("--checkpoint-freq", arguments.checkpoint_freq, low=0),
    )
    return run_train(
        TrainOptions(
            program=program,
            file=Path(file),
            overrides=overrides,
            resume=arguments.resume,
            ray_address=arguments.ray_address,
            dashboard=arguments.dashboard,
            verbose=arguments.verbose,
            modules=arguments.modules,
        )
    )


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


def _evaluate(program: str, words: Sequence[str]) -> int:
    """Parses the words after `rllib evaluate` and evaluates."""
    from k24_rllib.experiments.evaluate import run_evaluate

    arguments = evaluate_parser(program).parse(words)
    if arguments.checkpoint is None:
        raise ConfigError(f"which checkpoint? expected {program} evaluate CHECKPOINT")
    _import_modules(arguments.modules)
    episodes = _whole("--episodes", arguments.episodes, low=1)
    return run_evaluate(arguments.checkpoint, episodes, _whole("--seed", arguments.seed, low=0), arguments.verbose)


def _bench(program: str, words: Sequence[str]) -> int:
    """Parses the words after `rllib bench` and measures."""
    from k24_rllib.cli.bench import BenchOptions, benchmark_names, run_bench
    from k24_rllib.reporting import output_file

    arguments = bench_parser(program).parse(words)
    return run_bench(
        BenchOptions(
            what=benchmark_names(arguments.what),
            agents=_whole("--agents", arguments.agents, low=1),
            hidden=_whole("--hidden", arguments.hidden, low=1),
            copies=_optional_whole("--copies", arguments.copies, low=1),
            threads=_whole("--threads", arguments.threads, low=1),
            repeats=_optional_whole("--repeats", arguments.repeats, low=1),
            seconds=_positive("--seconds", arguments.seconds),
            json=output_file("--json", arguments.json),
            figure=output_file("--figure", arguments.figure),
            quick=arguments.quick,
            verbose=arguments.verbose,
        )
    )


def _compare(program: str, words: Sequence[str]) -> int:
    """Parses the words after `rllib compare` and compares."""
    arguments = compare_parser(program).parse(words)
    if not arguments.sources:
        raise ConfigError(f"what to compare? expected {program} compare RUN_OR_YAML...")
    _import_modules(arguments.modules)

    from k24_rllib.comparison.sources import CompareOptions, run_compare
    from k24_rllib.comparison.table import Budget
    from k24_rllib.reporting import output_file

    return run_compare(
        CompareOptions(
            program=program,
            words=words,
            sources=arguments.sources,
            seeds=arguments.seeds,
            out=arguments.out,
            set=arguments.set,
            stop=arguments.stop,
            concurrent=_whole("--concurrent", arguments.concurrent, low=1),
            budget=Budget(
                at=_optional_whole("--at", arguments.at, low=1),
                window=_optional_whole("--window", arguments.window, low=1),
            ),
            csv=output_file("--csv", arguments.csv),
            json=output_file("--json", arguments.json),
            figure=output_file("--figure", arguments.figure),
            metrics=list(dict.fromkeys(arguments.metrics)),
            no_return=arguments.no_return,
            verbose=arguments.verbose,
        )
    )


def _import_modules(names: Sequence[str]) -> None:
    """Imports the user's modules, which may lie in the working directory."""
    if names and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and misses one of its own
            raise ConfigError(f"--import {name}: no such module in {Path.cwd()} or the Python path") from None


def _whole(option: str, text: str | int, low: int) -> int:
    """Returns the whole number that an option was given, at least `low`."""
    if not re.fullmatch(r"\s*\d+\s*", str(text)) or int(text) < low:
        raise ConfigError(f"{option}: got {text!r}, expected a whole number of at least {low}")
    return int(text)


def _optional_whole(option: str, text: str | None, low: int) -> int | None:
    return None if text is None else _whole(option, text, low)


def _positive(option: str, text: str | float) -> float:
    """Returns the number that an option was given, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"{option}: got {text!r}, expected a number above 0")
    return value


COMMANDS: dict[str, Callable[[str, Sequence[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
    "bench": _bench,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit code.

    Errors are one line on stderr: exit code 2 for what the user can put right, 1 for anything else. `-vv` adds the
    traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    program = "k24" if argv is None and Path(sys.argv[0]).stem == "k24" else "rllib"
    try:
        return _dispatch(program, words)
    except ConfigError as error:
        return _report(error, str(error), words, code=2)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as `rllib ... | head` leaves it
        return 141
    except Exception as error:
        text = " ".join(str(error).split())
        return _report(error, f"{type(error).__name__}: {text} (-vv shows where)", words, code=1)


def _dispatch(program: str, words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(program=program), end="")
        return 0
    if words[0] == "--version":
        from k24_rllib import __version__

        print(f"k24_rllib {__version__}")
        return 0
    return COMMANDS[check_name("command", words[0], COMMANDS)](program, words[1:])


def _report(error: BaseException, message: str, words: Sequence[str], code: int) -> int:
    """Prints one line for `error`, after its traceback if the user asked for that, and returns `code`."""
    if any(re.fullmatch("-v{2,}", word) for word in words) or sum(word in ("-v", "--verbose") for word in words) > 1:
        traceback.print_exception(error)
    print(f"rllib: error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
