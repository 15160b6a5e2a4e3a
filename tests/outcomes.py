"""What the command line's tests expect of bad input."""

from __future__ import annotations

import subprocess

import ray


def assert_error(outcome: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Checks for one line of error with `parts` in it, from before anything ran."""
    assert (outcome.returncode, outcome.stdout) == (2, ""), outcome
    assert outcome.stderr.startswith("rllib: error: ")
    assert outcome.stderr.count("\n") == 1
    for part in parts:
        assert part in outcome.stderr
    assert not ray.is_initialized()
