"""What every command line here has in common, `rllib` and `python -m benchmarks`: one line for what is wrong.

A parser whose errors are `ConfigError`s, checks of the numbers that options take, and exit codes.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from k24_rllib.checks import ConfigError, nearest
from k24_rllib.reporting import print_error

LONGEST_LINE = 280
"""Characters of an error, beside the program's name."""
LONGEST_WORD = 240
USUAL_PATH = 50
"""Characters of a path beyond which they don't count."""
_LEFT_OUT = " [...] "


class Parser(argparse.ArgumentParser):
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

    def add_verbose(self) -> None:
        """Adds `-v`."""
        self.add_argument(
            "-v", "--verbose", action="count", default=0, help="show Ray's own output; -vv also tracebacks of errors"
        )


class Stopped(KeyboardInterrupt):
    """A signal that ends the program at once, as Ctrl-C does; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def whole_number(option: str, text: str | int, low: int) -> int:
    """Returns the whole number that an option was given, at least `low`."""
    if not re.fullmatch(r"\s*\d+\s*", str(text)) or int(text) < low:
        raise ConfigError(f"{option}: got {text!r}, expected a whole number of at least {low}")
    return int(text)


def optional_whole_number(option: str, text: str | None, low: int) -> int | None:
    """Returns the whole number that an option was given, or None where it wasn't given."""
    return None if text is None else whole_number(option, text, low)


def positive_number(option: str, text: str | float) -> float:
    """Returns the number that an option was given, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"{option}: got {text!r}, expected a number above 0")
    return value


def exit_code(command: Callable[[], int], words: Sequence[str]) -> int:
    """Runs a command and returns its exit code, whatever happens.

    Errors are one line on stderr: exit code 2 for what the user can put right, 1 for anything else. `-vv` among
    `words` adds the traceback.
    """
    try:
        return command()
    except ConfigError as error:
        return _report(error, str(error), words, code=2)
    except KeyboardInterrupt as stop:
        print("\nstopped", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as `rllib ... | head` leaves it
        return 141
    except Exception as error:
        text = " ".join(str(error).split())
        return _report(error, f"{type(error).__name__}: {text} (-vv shows where)", words, code=1)


def _report(error: BaseException, message: str, words: Sequence[str], code: int) -> int:
    """Prints one line for `error`, after its traceback if the user asked for that, and returns `code`."""
    if any(re.fullmatch("-v{2,}", word) for word in words) or sum(word in ("-v", "--verbose") for word in words) > 1:
        traceback.print_exception(error)
    print_error(shortened(message))
    return code


def shortened(message: str) -> str:
    """Returns a message on one line of fewer than 300 characters, not counting long paths, which stay whole.

    What it names first and what it expected last stay; values that are longer than anybody reads are cut.
    """
    words = [_cut(word, LONGEST_WORD) for word in message.split()]
    room = LONGEST_LINE + sum(max(len(word) - USUAL_PATH, 0) for word in words if "/" in word)
    return _cut(" ".join(words), room)


def _cut(text: str, longest: int) -> str:
    """Returns a text with its middle left out where it is too long."""
    if len(text) <= longest:
        return text
    half = (longest - len(_LEFT_OUT)) // 2
    return f"{text[:half]}{_LEFT_OUT}{text[-half:]}"
