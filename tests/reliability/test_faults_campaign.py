"""Faults on real runs, many times over; `make reliability` runs them, and FAULTS_TIMES=2 only a few."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_runs import (
    LONGEST_LINE,
    LiveRun,
    addresses,
    checkpoints,
    interrupt_and_check,
    is_progress,
    wait_until_gone,
    write_experiment,
)

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc"),
]

TIMES = int(os.environ.get("FAULTS_TIMES", "10"))
ARRANGEMENTS = [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1)]
"""Workers, and rounds that they are ahead."""
LIMIT_S = 8
"""Seconds of a round, where environments hang; longer than any other round takes on a busy machine."""
ALONE_S = 75
"""Seconds in which Ray's agents end by themselves after everything else was killed."""


@pytest.fixture
def start(tmp_path: Path, tiny: dict[str, Any]) -> Iterator[Any]:
    """Starts runs, and ends them after the test."""
    begun: list[LiveRun] = []

    def run(*more_words: str, **config: Any) -> LiveRun:
        begun.append(LiveRun(tmp_path, [*write_experiment(tmp_path, tiny, **config), *more_words]))
        return begun[-1]

    yield run
    for one in begun:
        one.kill()


@pytest.mark.parametrize("time", range(TIMES))
def test_sigterm_to_the_group_saves_says_how_to_go_on_and_leaves_143(start: Any, tmp_path: Path, time: int) -> None:
    workers, ahead = ARRANGEMENTS[time % len(ARRANGEMENTS)]
    interrupt_and_check(start(num_env_runners=workers, rollouts_ahead=ahead), tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_other_signals_to_the_group_save_too(start: Any, tmp_path: Path, number: signal.Signals) -> None:
    interrupt_and_check(start(num_env_runners=1), tmp_path, number)


def test_what_timeout_sends_saves(tiny: dict[str, Any], tmp_path: Path) -> None:
    run = LiveRun(tmp_path, write_experiment(tmp_path, tiny, num_env_runners=1), before=["timeout", "600"])
    try:
        run.wait_for(is_progress)
        processes = run.processes()
        run.process.terminate()  # it then does as when the time is over: a signal to the command, and one to the group
        assert run.end(90) == 143
        wait_until_gone(processes, 20)
    finally:
        run.kill()
    assert any(line.startswith("go on with ") for line in run.lines), run.text


def test_a_second_signal_leaves_at_once(start: Any) -> None:
    run = start(num_env_runners=1, env_config={"how": "hang", "after": 60}, sample_timeout_s=600)
    run.wait_for(is_progress)
    processes = run.processes()
    run.signal_group(signal.SIGTERM)
    run.wait_for(lambda line: line.startswith("stopping: "))
    run.signal_group(signal.SIGTERM)
    assert run.end(30) == 143
    wait_until_gone(processes, 20)


@pytest.mark.parametrize("which", ["command", "driver"])
def test_nothing_stays_behind_one_that_is_killed(start: Any, which: str) -> None:
    run = start(num_env_runners=1)
    run.wait_for(is_progress)
    processes = run.processes()
    os.kill(processes[0] if which == "command" else processes[1], signal.SIGKILL)
    run.end(20)
    wait_until_gone(processes, ALONE_S)


@pytest.mark.parametrize(("workers", "ahead"), ARRANGEMENTS)
@pytest.mark.parametrize("how", ["raise", "hang", "shape", "broadcast", "type", "list"])
def test_an_environment_that_always_fails_ends_the_run(
    start: Any, tmp_path: Path, how: str, workers: int, ahead: int
) -> None:
    run = start(
        num_env_runners=workers,
        rollouts_ahead=ahead,
        env_config={"how": how, "after": 35},
        max_round_retries=1,
        sample_timeout_s=LIMIT_S,
    )
    assert run.end() == 1, run.text
    who = "worker " if workers else "in the learner's process"
    expected = {
        "raise": "raised ValueError: the simulator is out of marbles",
        "hang": f"did not return within {LIMIT_S:g} s of its round",
        "shape": "obs: got float32 [4, 2, 11], expected float32 [4, 2, 12]",
        "broadcast": "team_reward: got float32 [1], expected float32 [4]",
        "type": "obs: got float64 [4, 2, 12], expected float32 [4, 2, 12]",
        "list": "team_reward: got list, expected float32 [4]",
    }[how]
    last = run.lines[-1]
    assert last.startswith("rllib: error: trial "), run.text
    for part in ("environment 'faulty'", who, "step 10", expected, "given up (max_round_retries: 1)", "error.txt"):
        assert part in last, run.text
    assert checkpoints(tmp_path)
    assert max(len(line.replace(str(tmp_path), "")) for line in run.lines) < LONGEST_LINE, run.text


def test_what_can_not_be_interrupted_is_ended_by_the_learners_process(start: Any) -> None:
    run = start(
        num_env_runners=1,
        env_config={"how": "hang with the lock", "after": 35},
        max_round_retries=0,
        sample_timeout_s=LIMIT_S,
    )
    assert run.end() == 1, run.text
    assert f"(worker 1): no answer within {LIMIT_S + 45:g} s" in run.lines[-1]


@pytest.mark.parametrize(("workers", "ahead"), ARRANGEMENTS[1:])
def test_an_environment_that_ends_its_process_ends_the_run(start: Any, workers: int, ahead: int) -> None:
    run = start(
        num_env_runners=workers, rollouts_ahead=ahead, env_config={"how": "crash", "after": 35}, max_round_retries=1
    )
    assert run.end() == 1, run.text
    assert "died: killed, or crashed; given up" in run.lines[-1]
    assert max(map(len, run.lines)) < LONGEST_LINE, run.text


@pytest.mark.parametrize("time", range(TIMES))
def test_workers_that_are_killed_come_back(start: Any, tmp_path: Path, time: int) -> None:
    workers, ahead = ARRANGEMENTS[1 + time % (len(ARRANGEMENTS) - 1)]
    run = start(num_env_runners=workers, rollouts_ahead=ahead)
    run.wait_for(is_progress)
    os.kill(run.workers()[0], signal.SIGKILL)
    run.wait_for(lambda line: line.endswith("restarted (died: killed, or crashed)"))
    seen = len(run.lines)
    run.wait_for(lambda line: line in run.lines[seen:] and is_progress(line))
    assert len(run.workers()) == workers
    interrupt_and_check(run, tmp_path)


@pytest.mark.parametrize("words", [(), ("--dashboard",)], ids=["plain", "dashboard"])
def test_everything_listens_on_loopback_alone(start: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    run = start(*words, num_env_runners=2)
    run.wait_for(is_progress)
    found = addresses(run.processes())
    interrupt_and_check(run, tmp_path)
    assert found
    assert found <= {"127.0.0.1", "::1"}
