"""`rllib bench`: runs `python -m benchmarks`, which lies beside the package in a checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import ConfigError


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib bench` and returns its exit code; the benchmarks' own process prints, its errors too."""
    path = os.pathsep.join(filter(None, [str(checkout()), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "K24_BENCH_PROGRAM": f"{program} bench"}
    # -P leaves out the working directory, where another package of that name may lie.
    with subprocess.Popen([sys.executable, "-P", "-m", "benchmarks", *words], env=environment) as child:
        return _wait(child)


def checkout() -> Path:
    """Returns the directory in which `benchmarks/` lies beside the package.

    Raises:
        ConfigError: if it isn't there, as where only the package is installed.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise ConfigError(
            "bench: benchmarks/ isn't installed with the package, expected a checkout of the repository "
            "(in one: python -m k24_rllib.cli.main bench)"
        )
    return root


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Waits until the child ends and returns its exit code, as shells count one that a signal ended.

    Ctrl-C in a terminal reaches the child too, so here it is only waited for what the child makes of it.
    """
    handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
