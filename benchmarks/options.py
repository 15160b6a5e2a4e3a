"""What to measure, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k24_rllib.checks import check_name

BENCHMARKS = ("environment", "rollout", "update", "end-to-end", "scaling")
USUAL = BENCHMARKS[:-1]
"""What runs if nothing is named; the scaling study takes minutes."""
QUICK_REPEATS = 3


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how."""

    what: tuple[str, ...] = USUAL
    agents: int = 3
    hidden: int = 64
    copies: int | None = None
    """Environment copies; None takes each benchmark's own number."""
    threads: int = 1
    repeats: int | None = None
    """Turns of each measurement; None takes each benchmark's own number."""
    seconds: float = 4.0
    """Training in each turn of `end-to-end`."""
    json: Path | None = None
    figure: Path | None = None
    quick: bool = False
    """Whether to measure as little as shows that everything works."""
    verbose: int = 0

    def repeats_or(self, usual: int) -> int:
        """Returns the turns to take where a benchmark usually takes `usual`."""
        return self.repeats or (QUICK_REPEATS if self.quick else usual)


def benchmark_names(given: Sequence[str]) -> tuple[str, ...]:
    """Returns the benchmarks named, in their order, or the usual ones.

    Raises:
        ConfigError: naming an unknown one and the nearest known.
    """
    wanted = {check_name("benchmark", name, BENCHMARKS) for name in given} or set(USUAL)
    return tuple(name for name in BENCHMARKS if name in wanted)
