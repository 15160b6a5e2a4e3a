"""Checks of user input, shared by every floor: one clear line for one bad value.

Each check either returns the value or raises `ConfigError`, whose message names the key, the value given, what was
expected and, for names, the nearest known one. The command line turns it into one line on stderr and exit code 2.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A value that the user gave and that cannot work; the message is a single line meant for them."""


def nearest(name: object, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the known name closest to `name`, or an empty string if none is close."""
    candidates = list(known)
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.5)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


def check_name(what: str, name: object, known: Iterable[str]) -> str:
    """Checks that `name` is one of `known`. `what` says what is named, as in `"environment"`."""
    candidates = sorted(known)
    if isinstance(name, str) and name in candidates:
        return name
    listed = ", ".join(candidates) if len(candidates) <= 16 else f"{len(candidates)} known names"
    raise ConfigError(f"unknown {what} {name!r}{nearest(name, candidates) or f' (known: {listed})'}")


def check_choice(key: str, value: object, choices: Iterable[object]) -> Any:
    """Checks that `value` is one of a few `choices`."""
    options = list(choices)
    if value in options:
        return value
    names = [option for option in options if isinstance(option, str)]
    listed = ", ".join(repr(option) for option in options)
    raise ConfigError(f"{key}: got {value!r}, expected one of {listed}{nearest(value, names)}")


def check_bool(key: str, value: object) -> bool:
    """Checks that `value` is a bool."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: got {value!r}, expected true or false")
    return value


def check_number(
    key: str,
    value: object,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    integer: bool = False,
) -> float:
    """Checks that `value` is a finite number in range.

    Args:
        key: The configuration key, for the message.
        value: What the user gave.
        low: Smallest value allowed.
        high: Largest value allowed.
        above: Exclusive lower bound.
        integer: Whether it must be a whole number (an int, not 3.0).

    Raises:
        ConfigError: naming the key, the value and the range.
    """
    kind = "a whole number" if integer else "a number"
    bounds = [
        text
        for bound, text in (
            (above, f"above {above}"),
            (low, f"at least {low}"),
            (high, f"at most {high}"),
        )
        if bound is not None
    ]
    expected = " ".join([kind, " and ".join(bounds)]).strip()
    is_number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if (
        not is_number
        or not _is_finite(value)  # type: ignore[arg-type]
        or (low is not None and value < low)  # type: ignore[operator]
        or (high is not None and value > high)  # type: ignore[operator]
        or (above is not None and value <= above)  # type: ignore[operator]
    ):
        raise ConfigError(f"{key}: got {value!r}, expected {expected}")
    return value  # type: ignore[return-value]


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float reaches
        return False
