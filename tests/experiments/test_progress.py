"""What the user reads: progress lines and the figures at the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from k24_rllib.experiments.evaluate import Evaluation
from k24_rllib.experiments.progress import Progress
from k24_rllib.experiments.stopping import ENV_STEPS
from k24_rllib.reporting import duration


def result(steps: int, **more: Any) -> dict[str, Any]:
    return {
        ENV_STEPS: steps,
        "num_env_steps_sampled_this_iter": 1000,
        "time_this_iter_s": 2.0,
        "training_iteration": steps // 1000,
        "env_runners": {"episode_return_mean": -54.321},
        **more,
    }


def trial(number: int = 0) -> Any:
    return SimpleNamespace(
        trial_id=f"t{number}",
        experiment_tag=f"{number}_lr=0.1",
        config={"env": "mpe_simple_spread", "env_config": {"N": 3}},
        path="results",
    )


def test_a_line_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    progress, only = Progress({ENV_STEPS: 10_000}), trial()
    greedy = {"env_runners": {"episode_return_mean": -50.0}}
    progress.on_trial_result(1, [only], only, result(1000, evaluation=greedy))
    line = capsys.readouterr().out
    assert line.startswith(
        "steps 1,000/10,000 (10%) | return -54.3 | greedy -50.0 (score 0.56) | 500 steps/s | eta 0:18"
    )


def test_lines_come_at_most_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    progress, only = Progress({ENV_STEPS: 10_000}, every_s=60), trial()
    for iteration in range(1, 5):
        progress.on_trial_result(iteration, [only], only, result(1000 * iteration))
    assert capsys.readouterr().out.count("\n") == 1
    progress.on_trial_result(5, [only], only, result(5000, done=True))
    assert "steps 5,000" in capsys.readouterr().out


def test_several_trials_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    progress, trials = Progress({}), [trial(0), trial(1)]
    for one in trials:
        progress.on_trial_result(1, trials, one, result(1000))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["[0_lr=0.1]", "[1_lr=0.1]"]


def test_without_a_step_goal_progress_follows_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    only = trial()
    Progress({"training_iteration": 4}).on_trial_result(1, [only], only, result(1000))
    assert capsys.readouterr().out.startswith("steps 1,000 (25%) | ")


def test_the_mean_and_its_interval() -> None:
    returns = np.random.default_rng(0).normal(-50, 10, size=100)
    evaluation = Evaluation.of(returns.tolist(), (-81.4, -25.0))
    assert evaluation.mean == pytest.approx(returns.mean())
    assert evaluation.margin == pytest.approx(1.96 * returns.std(ddof=1) / 10)
    raw, scored = evaluation.lines()
    assert f"{returns.mean():.2f}" in raw
    assert f"{(returns.mean() + 81.4) / 56.4:.3f}" in scored


def test_a_single_episode_and_no_reference() -> None:
    evaluation = Evaluation.of([-3.0], None)
    assert evaluation.margin == 0
    assert len(evaluation.lines()) == 1


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (320, "5:20"), (3920, "1:05:20")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
