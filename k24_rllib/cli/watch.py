"""`rllib watch`: the report of a run that goes on, in the browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence

from k24_rllib.checks import ConfigError
from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser, whole_number
from k24_rllib.experiments.ray_session import quiet_ray
from k24_rllib.report.live import LiveReport, LiveServer

DEFAULT_PORT = 8650
LAST_PORT = 65535


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib watch`."""
    parser = Parser(
        prog=f"{program} watch",
        usage=f"{program} watch RUN [options]",
        description="Show the report of a run while it goes on, at an address that only this machine reaches. The page "
        "renews itself. Ctrl-C ends it, and changes nothing of the run.",
    )
    parser.add_argument("source", nargs="?", metavar="RUN", help="a trial's or experiment's directory")
    parser.add_argument(
        "--port", metavar="N", default=str(DEFAULT_PORT), help=f"default: {DEFAULT_PORT}; 0 takes any that is free"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    add_import(parser)
    parser.add_verbose()
    return parser


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib watch` until Ctrl-C."""
    arguments = make_parser(program).parse(words)
    if not arguments.source:
        raise ConfigError(f"which run? expected {program} watch RUN")
    port = whole_number("--port", arguments.port, low=0)
    if port > LAST_PORT:
        raise ConfigError(f"--port: got {port}, expected at most {LAST_PORT}")
    import_modules(arguments.modules)
    if arguments.verbose == 0:
        quiet_ray()
    with LiveServer(LiveReport(arguments.source), port) as server:
        print(f"watching {arguments.source} at {server.address} (Ctrl-C ends it)", flush=True)
        if arguments.open and not webbrowser.open(server.address):
            print("note: no browser was found to open it")
        server.serve_forever()
    return 0
