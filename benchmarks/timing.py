"""Measuring in turn: on a machine whose speed drifts, only what ran side by side compares."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Measure = Callable[[], float]
"""Does something once and returns how fast it was, in ms or steps/s."""

UPDATE_CALLS = {"calls": 3, "untimed": 1}
"""How often an update, or what it is held against, is made in a turn: in training one follows the other."""


def in_turn(measures: Mapping[str, Measure], repeats: int, warmups: int = 2) -> dict[str, list[float]]:
    """Takes every measure once a turn, for `repeats` turns after `warmups` that don't count.

    Every other turn goes backwards, so that none always follows the same one.

    Returns:
        What each measure returned, in the order of the turns, so that figures at the same place compare.
    """
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(-warmups, repeats):
        names = list(measures) if turn % 2 == 0 else list(measures)[::-1]
        for name in names:
            value = measures[name]()
            if turn >= 0:
                taken[name].append(value)
    return taken


def milliseconds(work: Callable[[], object], calls: int = 1, untimed: int = 0) -> Measure:
    """Returns the measure of one call's wall time in ms, the mean over `calls` in a row.

    Args:
        work: What to call.
        calls: Calls that are timed together.
        untimed: Calls before them that aren't, which find in the caches what another measure has left there.
    """

    def measure() -> float:
        for _ in range(untimed):
            work()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) * 1e3 / calls

    return measure


def per_second(play: Callable[[], int], at_least_s: float) -> Measure:
    """Returns the measure of steps a second of `play`, which returns its steps, called for at least `at_least_s`."""

    def measure() -> float:
        steps, start = 0, time.perf_counter()
        while True:
            steps += play()
            elapsed = time.perf_counter() - start
            if elapsed >= at_least_s:
                return steps / elapsed

    return measure
