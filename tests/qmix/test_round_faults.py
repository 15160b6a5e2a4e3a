"""What environments do wrong in mid-episode is named as theirs; what hangs is interrupted; failures are counted."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from k24_rllib import QMixConfig
from k24_rllib.envs import TeamStep, make_team_env
from k24_rllib.envs.faults import EnvironmentFault, Overdue
from k24_rllib.qmix import watch
from k24_rllib.qmix.rollout import collect_episodes
from k24_rllib.qmix.watch import RoundWatch
from k24_rllib.qmix.workers import Failures, RoundsFailedError

Spoil = Callable[[TeamStep], TeamStep]


def play(small: Callable, spoil: Spoil, method: str = "step") -> None:
    """Plays a round in an environment of which one method's results are spoilt, from its third call on if a step."""
    config = small(QMixConfig())
    policy = config.build_policy()
    env = make_team_env(config.env, 4, **config.env_config)
    its, calls = getattr(env, method), [0]

    def spoilt(*arguments: Any) -> TeamStep:
        calls[0] += 1
        result = its(*arguments)
        return spoil(result) if calls[0] == 3 or method == "reset" else result

    setattr(env, method, spoilt)
    collect_episodes(env, policy.model, epsilon=1.0, explore=True, seed=0)


WRONG: dict[str, tuple[Spoil, str]] = {
    "shape": (lambda s: replace(s, obs=s.obs[..., :-1]), r"step 3: obs: got float32 \[4, 2, 11\], expected float32 \["),
    "fewer agents": (lambda s: replace(s, obs=s.obs[:, :1]), r"step 3: obs: got float32 \[4, 1, 12\]"),
    "what would be broadcast": (
        lambda s: replace(s, team_reward=s.team_reward[:1]),
        r"step 3: team_reward: got float32 \[1\], expected float32 \[4\]",
    ),
    "type": (lambda s: replace(s, state=s.state.astype(np.float64)), r"step 3: state: got float64 \["),
    "a number": (lambda s: replace(s, truncated=s.truncated.astype(int)), r"step 3: truncated: got int64 \[4\]"),
    "no array": (lambda s: replace(s, agent_rewards=1.0), "step 3: agent_rewards: got float, expected float32"),
    "nothing": (lambda s: None, "step 3 raised AttributeError"),
    "owners": (lambda s: replace(s, mask_ids=1 - s.mask_ids), "step 3: mask_ids: copy 0, agent 0: got 1 after 0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_step_is_named(small: Callable, what: str) -> None:
    spoil, expected = WRONG[what]
    with pytest.raises(EnvironmentFault, match=f"^{expected}"):
        play(small, spoil)


def test_a_wrong_reset_is_named(small: Callable) -> None:
    with pytest.raises(EnvironmentFault, match=r"^reset: state: got float32 \[3, "):
        play(small, lambda step: replace(step, state=step.state[:3]), "reset")


def test_an_exception_is_named_in_one_line(small: Callable) -> None:
    def break_down(step: TeamStep) -> TeamStep:
        raise ZeroDivisionError("no\n" + "x" * 1000)

    with pytest.raises(EnvironmentFault) as caught:
        play(small, break_down)
    text = str(caught.value.of("mine", 2))
    assert text.startswith("environment 'mine' (worker 2): step 3 raised ZeroDivisionError: no xxx")
    assert len(text) < 260
    assert "\n" not in text
    assert str(pickle.loads(pickle.dumps(caught.value.of("mine", 0)))).startswith(
        "environment 'mine' (in the learner's"
    )


def test_what_hangs_is_interrupted_and_the_place_told(small: Callable) -> None:
    def hang(step: TeamStep) -> TeamStep:
        time.sleep(60)
        return step

    limit = RoundWatch(0.5)
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"^step 3: did not return within 0.5 s of its round"), limit:
        play(small, hang)
    assert time.monotonic() - began < 10
    limit.stop()


def test_code_that_catches_everything_but_the_last_is_interrupted_too() -> None:
    def deaf() -> None:
        with limit:
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(60)

    limit = RoundWatch(0.5)
    with pytest.raises(Overdue):
        deaf()
    limit.stop()


def test_rounds_in_time_are_left_alone() -> None:
    limit = RoundWatch(0.6)
    for _ in range(8):
        with limit:
            time.sleep(0.2)
    assert not limit.is_overdue
    limit.stop()


def test_without_a_limit_nobody_watches() -> None:
    before = threading.active_count()
    with RoundWatch(None):
        assert threading.active_count() == before


def test_what_can_not_be_interrupted_has_its_stack_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRACE_S", 0.5)
    told: list[str] = []
    limit = RoundWatch(0.5, told.append)
    with limit:
        end = time.monotonic() + 30
        while not told and time.monotonic() < end:
            with contextlib.suppress(Overdue):  # as code that Python can't reach would
                time.sleep(0.1)
    limit.stop()
    assert "test_what_can_not_be_interrupted" in told[0]


def test_failures_end_the_trial_when_they_are_too_many() -> None:
    said: list[str] = []
    failures = Failures(QMixConfig().training(max_round_retries=2), said.append)
    for _ in range(2):
        failures.failed(1, "died: killed, or crashed")
        failures.restarted(1)
    failures.failed(2, "died: killed, or crashed")
    assert said == ["worker 1 restarted (died: killed, or crashed)"] * 2
    with pytest.raises(
        RoundsFailedError, match=r"^worker 1 died: killed, or crashed; given up \(max_round_retries: 2\)$"
    ):
        failures.failed(1, "died: killed, or crashed")


def test_rounds_that_are_played_make_up_for_failures_now_and_then_but_not_every_few() -> None:
    rare = Failures(QMixConfig().training(max_round_retries=1), lambda line: None)
    for _ in range(20):
        rare.failed(1, "died")
        for _ in range(10):
            rare.played(1)
    often = Failures(QMixConfig().training(max_round_retries=3), lambda line: None)
    for _ in range(3):
        often.failed(1, "died")
        often.played(1)
    with pytest.raises(RoundsFailedError):
        often.failed(1, "died")


def test_none_is_allowed_where_workers_are_not_to_be_restarted() -> None:
    config = QMixConfig().fault_tolerance(restart_failed_env_runners=False)
    with pytest.raises(RoundsFailedError, match=r"^environment 'mine': boom$"):
        Failures(config, lambda line: None).failed(1, "environment 'mine': boom")
