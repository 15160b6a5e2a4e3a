"""`python -m benchmarks [WHAT ...] [options]`: times the code and prints tables; `rllib bench` calls this."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from benchmarks.options import BENCHMARKS, USUAL, BenchOptions, benchmark_names
from k24_rllib.checks import ConfigError
from k24_rllib.command_line import Parser, exit_code, optional_whole_number, positive_number, whole_number
from k24_rllib.reporting import output_file


def make_parser(program: str) -> Parser:
    """Returns the parser; `program` is what the user calls this."""
    parser = Parser(
        prog=program,
        usage=f"{program} [WHAT ...] [options]",
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
    parser.add_verbose()
    return parser


def parse(program: str, words: Sequence[str]) -> BenchOptions:
    """Returns what the words ask for.

    Raises:
        ConfigError: for what can't be measured or written.
    """
    arguments = make_parser(program).parse(words)
    options = BenchOptions(
        what=benchmark_names(arguments.what),
        agents=whole_number("--agents", arguments.agents, low=1),
        hidden=whole_number("--hidden", arguments.hidden, low=1),
        copies=optional_whole_number("--copies", arguments.copies, low=1),
        threads=whole_number("--threads", arguments.threads, low=1),
        repeats=optional_whole_number("--repeats", arguments.repeats, low=1),
        seconds=positive_number("--seconds", arguments.seconds),
        json=output_file("--json", arguments.json),
        figure=output_file("--figure", arguments.figure),
        quick=arguments.quick,
        verbose=arguments.verbose,
    )
    if options.figure is not None and "scaling" not in options.what:
        raise ConfigError(f"--figure {options.figure}: only the scaling study has a figure, expected bench scaling")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the words `argv` ask for and returns the exit code; see `exit_code`."""
    words = list(sys.argv[1:] if argv is None else argv)
    program = os.environ.get("K24_BENCH_PROGRAM", "python -m benchmarks")  # `rllib bench` puts its name there
    return exit_code(lambda: _measure(parse(program, words)), words)


def _measure(options: BenchOptions) -> int:
    from benchmarks.run import run

    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
