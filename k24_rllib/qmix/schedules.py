"""How settings move with the environment steps sampled."""

from __future__ import annotations


def linear(step: int, initial: float, final: float, duration: int) -> float:
    """Returns a value that moves linearly from `initial` to `final` over `duration` environment steps, and stays.

    Args:
        step: Environment steps sampled so far.
        initial: Value at the start.
        final: Value from `duration` on.
        duration: Environment steps of the way; 0 or less begins with `final`.
    """
    if duration <= 0:
        return final
    return initial + (final - initial) * min(step / duration, 1.0)
