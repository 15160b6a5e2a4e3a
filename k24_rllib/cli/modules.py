"""`--import`: modules of the user's own, which register environments, before a command looks at anything else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.command_line import Parser


def add_import(parser: Parser) -> None:
    """Adds `--import` to a command's options."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module first, which registers environments of your own; may be repeated",
    )


def import_modules(names: Sequence[str]) -> None:
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


def import_words(names: Sequence[str]) -> list[str]:
    """Returns the words of a command line that imports the user's modules too."""
    return [word for name in names for word in ("--import", name)]
