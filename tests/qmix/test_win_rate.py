"""Winning, where an environment knows of it: from its steps to results, evaluations and the lines that are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import k24_rllib
from k24_rllib import QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, TeamStep
from k24_rllib.experiments.evaluate import Evaluation
from k24_rllib.experiments.progress import Progress
from k24_rllib.experiments.stopping import check_stop
from k24_rllib.qmix import EpisodeBatch, EpisodeReplayBuffer

STEPS = 5


class Race(TeamEnv):
    """Each copy's battle lasts as long as a reset draws, 1 to 5 steps, and the short ones are won.

    Args:
        num_envs: Copies.
        knows: Whether it says so.
        wrong: Whether it says so in numbers.
    """

    def __init__(self, num_envs: int, knows: bool = True, wrong: bool = False, max_cycles: int = STEPS) -> None:
        self.num_envs, self.num_agents, self.num_mask_owners, self.num_actions = num_envs, 2, 2, 3
        self.obs_dim = self.state_dim = 2
        self.episode_limit = max_cycles
        self._knows, self._wrong, self._rng = knows, wrong, np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> TeamStep:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._steps, self._lengths = 0, self._rng.integers(1, STEPS + 1, self.num_envs)
        return self._look(np.zeros(self.num_envs, np.float32))

    def step(self, actions: np.ndarray) -> TeamStep:
        going = self._steps < self._lengths
        self._steps += 1
        return self._look(going.astype(np.float32))

    def _look(self, reward: np.ndarray) -> TeamStep:
        copies, over = self.num_envs, self._steps >= self._lengths
        won: Any = over & (self._lengths <= 2)
        return TeamStep(
            obs=np.ones((copies, 2, 2), np.float32),
            state=np.ones((copies, 2), np.float32),
            avail_actions=np.ones((copies, 2, 3), bool),
            mask_ids=np.tile(np.arange(2), (copies, 1)),
            team_reward=reward,
            agent_rewards=np.repeat(reward[:, None] / 2, 2, 1),
            terminated=over,
            truncated=np.zeros(copies, bool),
            won=(won.astype(np.float32) if self._wrong else won) if self._knows else None,
        )


@pytest.fixture
def build(ray_session, small):
    k24_rllib.register_team_env("race", Race)
    built = []

    def make(**env_config: Any):
        config = small(QMixConfig(), "race", **env_config).reporting(metrics_num_episodes_for_smoothing=1000)
        built.append(config.build_algo())
        return built[-1]

    yield make
    for algo in built:
        algo.stop()


def short(lengths: np.ndarray) -> float:
    return float((np.asarray(lengths) <= 2).mean())


def test_results_and_evaluations_have_the_share_of_episodes_won(build) -> None:
    algo = build()
    for _ in range(2):
        played = algo.train()["env_runners"]
    assert 0.0 < played["win_rate"] < 1.0
    assert played["win_rate"] == pytest.approx(short(played["hist_stats"]["episode_lengths"]))
    evaluated = algo.evaluate()["env_runners"]
    assert evaluated["win_rate"] == pytest.approx(short(evaluated["hist_stats"]["episode_lengths"]))
    assert not evaluated["custom_metrics"]
    greedy = algo.evaluate_greedy(150, seed=0)  # in two batches
    np.testing.assert_array_equal(greedy["won"], greedy["episode_lengths"] <= 2)
    assert len(greedy["won"]) == 150


def test_a_resumed_run_goes_on_with_the_episodes_that_the_rate_is_over(build, tmp_path) -> None:
    algo = build()
    algo.train()
    again = build()
    again.restore_from_path(algo.save_to_path(tmp_path / "there"))
    one, other = algo.train()["env_runners"], again.train()["env_runners"]
    assert one["hist_stats"]["episode_lengths"] == other["hist_stats"]["episode_lengths"]
    assert one["win_rate"] == other["win_rate"] == pytest.approx(short(one["hist_stats"]["episode_lengths"]))
    held = algo.local_replay_buffer.sample(8).episodes
    np.testing.assert_array_equal(held.wins(), held.lengths <= 2)


def test_an_environment_that_does_not_say_has_none(build) -> None:
    algo = build(knows=False)
    assert "win_rate" not in algo.train()["env_runners"]
    assert "win_rate" not in algo.evaluate()["env_runners"]
    assert "won" not in algo.evaluate_greedy(4, seed=0)


def test_what_an_older_buffer_held_was_not_won_or_lost() -> None:
    arrays = EpisodeBatch.empty(2, STEPS, 2, 2, 2, 3).arrays()
    del arrays["won"]
    buffer = EpisodeReplayBuffer(4, seed=0)
    buffer.add(EpisodeBatch.from_arrays(arrays))
    assert buffer.sample(2).episodes.wins() is None


def test_wins_of_another_type_are_refused() -> None:
    env = Race(3, wrong=True)
    with pytest.raises(ConfigError, match=r"won: got float32 \[3\], expected bool \[3\]"):
        env.check_first_step(env.reset(0))


def test_it_is_told_where_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    won = Evaluation.of([1.0, 2.0, 2.0, 1.0], (0.0, 2.0), [False, True, True, True])
    assert won.lines()[-1] == "win rate       0.750  (share of the episodes that were won)"
    assert not any("win" in line for line in Evaluation.of([1.0, 2.0], None).lines())
    trial = SimpleNamespace(trial_id="one", experiment_tag="", config={"env": "matrix_climbing"})
    for rates in ({"win_rate": 0.25}, {}):
        played = {"episode_return_mean": 1.0, **rates}
        Progress({}).on_trial_result(1, [trial], trial, {"env_runners": played, "evaluation": {"env_runners": played}})
    known, unknown = capsys.readouterr().out.splitlines()
    assert "| return 1.0 (25% won) | greedy 1.0 (score" in known
    assert known.count("(25% won)") == 2
    assert "won" not in unknown


def test_a_run_may_stop_at_a_win_rate() -> None:
    assert check_stop({"evaluation/env_runners/win_rate": 0.9}) == {"evaluation/env_runners/win_rate": 0.9}
