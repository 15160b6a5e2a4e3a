"""`rllib report`: what a run, a comparison or a search came to, as one HTML page."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser
from k24_rllib.comparison.sources import parse_source
from k24_rllib.experiments.ray_session import quiet_ray
from k24_rllib.report.write import REPORT_FILE, write_report
from k24_rllib.reporting import output_file


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib report`."""
    parser = Parser(
        prog=f"{program} report",
        usage=f"{program} report RUN... [options]",
        description="Write what a run, several runs or a search came to as one HTML page, which needs no network: "
        "curves, masks, an episode, settings; or methods compared; or a search's trials.",
        epilog="NAME=PATH gives a method a name. The page has whatever can be read, and says what can't; see "
        "docs/report.md.",
    )
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="RUN",
        help="a trial's or experiment's directory, or a CSV file that rllib compare wrote",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=f"where the page goes (default: {REPORT_FILE} in a single RUN's directory, else here)",
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    add_import(parser)
    parser.add_verbose()
    return parser


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib report` and returns its exit code."""
    arguments = make_parser(program).parse(words)
    if not arguments.sources:
        raise ConfigError(f"which run? expected {program} report RUN...")
    import_modules(arguments.modules)
    if arguments.verbose == 0:
        quiet_ray()
    file = output_file("--out", arguments.out) or _default_file(arguments.sources)
    write_report(arguments.sources, file)
    print(f"wrote {file}", flush=True)
    if arguments.open and not webbrowser.open(file.absolute().as_uri()):
        print("note: no browser was found to open it")
    return 0


def _default_file(given: Sequence[str]) -> Path:
    """Returns where the page goes if nobody says so: beside the results of a single run, else here."""
    path = parse_source(given[0]).path
    return path / REPORT_FILE if len(given) == 1 and path.is_dir() else Path(REPORT_FILE)
