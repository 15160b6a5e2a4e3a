"""Faults of live processes, on two real runs: restarts, what listens where, signals to the group, giving up."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from live_runs import (
    LONGEST_LINE,
    LiveRun,
    addresses,
    interrupt_and_check,
    is_progress,
    ray_directory,
    write_experiment,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


def test_a_run_outlives_its_workers_listens_on_loopback_and_is_stopped_with_its_group(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    fault = {"how": "raise", "after": 120, "once": str(tmp_path / "failed")}
    run = LiveRun(tmp_path, write_experiment(tmp_path, tiny, num_env_runners=1, rollouts_ahead=1, env_config=fault))
    try:
        assert run.wait_for(lambda line: line.startswith("worker 1 restarted")) == (
            "worker 1 restarted (environment 'faulty' (worker 1): step 20 raised ValueError: the simulator is out of "
            "marbles)"
        )
        processes = run.processes()
        assert len(processes) > 8  # the command, its driver, Ray's servers, the trial, a worker
        assert addresses(processes) <= {"127.0.0.1", "::1"}
        assert addresses(processes)
        directory = ray_directory(processes)
        assert directory.is_dir()

        (worker,) = run.workers()
        os.kill(worker, signal.SIGKILL)
        run.wait_for(lambda line: line == "worker 1 restarted (died: killed, or crashed)")
        interrupt_and_check(run, tmp_path)
        assert not directory.exists()
        assert max(map(len, run.lines)) < LONGEST_LINE, run.text
        assert not any("raylet" in line for line in run.lines)
    finally:
        run.kill()


def test_an_environment_that_always_raises_ends_the_run(tmp_path: Path, tiny: dict[str, Any]) -> None:
    words = write_experiment(tmp_path, tiny, env_config={"how": "raise", "after": 35}, max_round_retries=1)
    run = LiveRun(tmp_path, words)
    try:
        assert run.end() == 1, run.text
    finally:
        run.kill()
    assert any(is_progress(line) for line in run.lines)
    what = "environment 'faulty' (in the learner's process): step 10 raised ValueError: the simulator is out of marbles"
    assert f"environments made anew ({what})" in run.lines
    last = run.lines[-1]
    assert last.startswith("rllib: error: trial K24QMix_faulty_")
    assert f" failed: {what}; given up (max_round_retries: 1); all of it in " in last
    story = Path(last.rpartition(" ")[2]).read_text()
    assert 'faulty_env.py", line ' in story
    assert "in spoil" in story
    assert list(tmp_path.glob("live/*/checkpoint_*/algorithm_state.pkl"))
