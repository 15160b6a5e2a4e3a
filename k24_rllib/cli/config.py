"""`rllib config`: every setting with default, bounds and documentation, or a commented file to start from."""

from __future__ import annotations

from collections.abc import Sequence

from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser

DEFAULT_STARTER = "K24QMix"


def parser(program: str) -> Parser:
    """Returns the parser of `rllib config`."""
    words = Parser(
        prog=f"{program} config",
        usage=f"{program} config [ALGORITHM] [options]",
        description="Print every setting of an algorithm with its default, what it may be and what it does; without "
        "an algorithm, those of all.",
        epilog=f"{program} config K24QMix --yaml > my_file.yaml writes a file to start from.",
    )
    words.add_argument("algorithm", nargs="?", metavar="ALGORITHM", help="K24QMix, QMix, KaleidoscopeQMix, or your own")
    words.add_argument(
        "--yaml", action="store_true", help=f"a commented file to start from ({DEFAULT_STARTER} if none)"
    )
    add_import(words)
    words.add_verbose()
    return words


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib config` and returns its exit code."""
    arguments = parser(program).parse(words)
    import_modules(arguments.modules)

    from k24_rllib.experiments import settings_lines, starter_file
    from k24_rllib.experiments.experiment import check_algorithm

    run_name = None if arguments.algorithm is None else check_algorithm(arguments.algorithm)
    if arguments.yaml:
        print(starter_file(run_name or DEFAULT_STARTER), end="")
    else:
        print("\n".join(settings_lines(run_name)))
    return 0
