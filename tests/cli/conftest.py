"""Shared by the command line's tests: a real command that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

PATIENCE_S = 300


@pytest.fixture(scope="session")
def interrupt() -> Callable[..., str]:
    """Runs the real command, stops it while it trains as Ctrl-C in a terminal does, and returns what it printed."""

    def run(words: Sequence[str], job: str = "") -> str:
        """Interrupts at the first line of progress that follows a line beginning with `job`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "k24_rllib.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("steps ") and any(earlier.startswith(job) for earlier in lines):
                    os.killpg(process.pid, signal.SIGINT)
                    break
            lines += process.stdout
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert code == 130, "".join(lines)
        return "".join(lines)

    return run
