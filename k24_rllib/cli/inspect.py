"""`rllib inspect`: what is in a team's file; it needs neither Ray nor PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.command_line import Parser
from k24_rllib.serve.report import report_lines


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib inspect`."""
    parser = Parser(
        prog=f"{program} inspect",
        usage=f"{program} inspect FILE",
        description="Print what is in a file of rllib export: layers, density, bytes beside dense networks', patterns, "
        "how alike owners are. Nothing in it is run.",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="a .safetensors or .onnx file of rllib export")
    parser.add_verbose()
    return parser


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib inspect` and returns its exit code."""
    arguments = make_parser(program).parse(words)
    if arguments.file is None:
        raise ConfigError(f"which file? expected {program} inspect FILE")
    print("\n".join(report_lines(Path(arguments.file))))
    return 0
