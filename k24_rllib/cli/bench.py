"""`rllib bench`: timings beside the arithmetic floor and the dense baseline; the code lies in `benchmarks/`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k24_rllib.checks import ConfigError, check_name

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


def run_bench(options: BenchOptions) -> int:
    """Runs `rllib bench` and returns its exit code."""
    if options.figure is not None and "scaling" not in options.what:
        raise ConfigError(f"--figure {options.figure}: only the scaling study has a figure, expected bench scaling")
    find_benchmarks()
    importlib.import_module("benchmarks.run").run(options)
    return 0


def find_benchmarks() -> None:
    """Lets `benchmarks` be imported from beside the package, where a checkout has it.

    Raises:
        ConfigError: if it isn't there, as where only the package is installed.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "run.py").is_file():
        raise ConfigError(
            "bench: benchmarks/ isn't installed with the package, expected a checkout of the repository "
            "(in one: python -m k24_rllib.cli.main bench)"
        )
    if str(root) not in sys.path[:1]:
        sys.path.insert(0, str(root))  # before any other package of that name
