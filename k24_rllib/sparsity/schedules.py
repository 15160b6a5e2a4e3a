"""How the temperature of the pattern distribution falls over training."""

from __future__ import annotations

import math

from k24_rllib.checks import check_choice, check_number

SCHEDULES = ("linear", "two_phase", "cosine")
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-30, 1e30
"""Beyond them is what float32 makes 0 or infinity of, or what a logit divided by it is: probabilities were NaN."""
MIDDLE_TEMPERATURE = 1.0
"""Where `two_phase` changes slope."""


def temperature_at(
    progress: float,
    init: float = 5.0,
    final: float = 0.2,
    end: float = 0.8,
    schedule: str = "linear",
) -> float:
    """Returns the temperature `tau` at a moment of training (method, training dynamics).

    Args:
        progress: Environment steps sampled / total environment steps; below 0 counts as 0.
        init: Temperature at the start; higher explores patterns more evenly.
        final: Temperature from `end` on; lower closes the gap between drawn and most likely patterns further.
        end: Progress at which `final` is reached.
        schedule: `linear`; `two_phase`, to 1 over the first half of the way and to `final` over the second; or
            `cosine`, half a period of it: slow at both ends, fastest half way.

    Raises:
        ConfigError: naming the value that cannot work.
    """
    check_number("progress", progress)
    check_temperature("temperature_init", init)
    check_temperature("temperature_final", final)
    check_number("temperature_end", end, above=0.0, high=1.0)
    check_choice("temperature_schedule", schedule, SCHEDULES)
    way = min(max(progress / end, 0.0), 1.0)
    if schedule == "linear":
        return _between(init, final, way)
    if schedule == "cosine":
        return _between(init, final, (1.0 - math.cos(math.pi * way)) / 2.0)
    check_number("temperature_init (two_phase)", init, low=MIDDLE_TEMPERATURE)
    check_number("temperature_final (two_phase)", final, high=MIDDLE_TEMPERATURE)
    if way < 0.5:
        return _between(init, MIDDLE_TEMPERATURE, 2.0 * way)
    return _between(MIDDLE_TEMPERATURE, final, 2.0 * way - 1.0)


def check_temperature(key: str, value: object) -> float:
    """Checks that `value` is a temperature by which float32 can divide.

    Raises:
        ConfigError: naming `key` and what was expected.
    """
    check_number(key, value, above=0.0)
    return check_number(key, value, low=SMALLEST_TEMPERATURE, high=LARGEST_TEMPERATURE)


def _between(start: float, stop: float, way: float) -> float:
    return start * (1.0 - way) + stop * way  # exact at both ends
