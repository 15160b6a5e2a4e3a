"""Whole runs that meet numbers that are none: from environments and by learning, in every arrangement of workers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import cloudpickle

import k24_rllib
from k24_rllib import K24QMix, K24QMixConfig, QMix, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.experiments.evaluate import evaluate_checkpoint
from k24_rllib.qmix import EpisodeBatch
from k24_rllib.qmix.guard import DivergedError

pytestmark = pytest.mark.usefixtures("ray_session")

NAN = float("nan")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers don't have this file on their path


def faulty(num_envs: int, field: str = "team_reward", value: float = NAN, episode: int = 2, step: int = 3):
    """Makes an environment of two agents that gives `value` once: in its copy 1, at `step` of its `episode`, from 1."""
    from k24_rllib.envs import TeamEnv, TeamStep

    class Faulty(TeamEnv):
        def __init__(self) -> None:
            self.num_envs, self.num_agents, self.num_actions, self.num_mask_owners = num_envs, 2, 3, 2
            self.obs_dim, self.state_dim, self.episode_limit = 4, 5, 5
            self.agent_names = ("left", "right")
            self._rng, self._episode, self._step = np.random.default_rng(0), 0, 0

        def reset(self, seed: int | None = None) -> TeamStep:
            self._episode, self._step = self._episode + 1, 0
            return self._look(np.zeros(num_envs))

        def step(self, actions: np.ndarray) -> TeamStep:
            self._step += 1
            return self._look(actions.sum(1))

        def _look(self, reward: np.ndarray) -> TeamStep:
            made = TeamStep(
                obs=self._rng.random((num_envs, 2, 4), np.float32),
                state=self._rng.random((num_envs, 5), np.float32),
                avail_actions=np.ones((num_envs, 2, 3), bool),
                mask_ids=np.tile(np.arange(2), (num_envs, 1)),
                team_reward=reward.astype(np.float32),
                agent_rewards=np.zeros((num_envs, 2), np.float32),
                terminated=np.zeros(num_envs, bool),
                truncated=np.full(num_envs, self._step >= self.episode_limit),
            )
            if (self._episode, self._step) == (episode, step):
                getattr(made, field)[1, ...] = False if field == "avail_actions" else value
            return made

    return Faulty()


def train(algo: QMix, iterations: int) -> None:
    for _ in range(iterations):
        algo.train()


@pytest.fixture(autouse=True)
def _registered() -> None:
    k24_rllib.register_team_env("faulty", faulty)


def on_faulty(small, config: QMixConfig, **fault) -> QMixConfig:
    small(config)
    config.env_config = {}  # what `small` gives to others
    return config.environment("faulty", env_config=fault)


@pytest.mark.parametrize(("workers", "ahead"), [(0, 0), (1, 0), (2, 1)])
def test_a_reward_that_is_no_number_is_refused_in_the_round_it_comes_in(small, workers: int, ahead: int) -> None:
    config = on_faulty(small, QMixConfig()).reporting(min_sample_timesteps_per_iteration=1)
    algo = config.training(rollouts_ahead=ahead).env_runners(num_env_runners=workers).build_algo()
    assert np.isfinite(algo.train()["env_runners"]["episode_return_mean"])
    with pytest.raises(ConfigError, match=r"^environment faulty: team reward at step 3 \(copy 1\): got nan, expected"):
        algo.train()
    assert len(algo.local_replay_buffer) == 4 * max(1, workers)
    algo.policy.check_finite("")
    algo.stop()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"field": "obs", "step": 0}, r"observation of agent left at step 0, entry 0 \(copy 1\): got nan"),
        ({"field": "state", "value": -np.inf}, r"state at step 3, entry 0 \(copy 1\): got -inf"),
        ({"field": "agent_rewards", "value": np.inf}, r"reward of agent left at step 3 \(copy 1\): got inf"),
        ({"field": "avail_actions"}, r"available actions of agent left at step 3 \(copy 1\): got none"),
    ],
)
def test_whatever_is_no_number_is_refused(small, fault: dict, message: str) -> None:
    algo = on_faulty(small, K24QMixConfig().k24(total_env_steps=1000), episode=1, **fault).build_algo()
    with pytest.raises(ConfigError, match=f"^environment faulty: {message}, expected"):
        algo.train()
    algo.stop()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_is_refused_too(small, workers: int) -> None:
    config = on_faulty(small, QMixConfig(), field="obs")
    config.evaluation(evaluation_interval=1, evaluation_num_env_runners=workers, evaluation_duration=6)
    algo = config.build_algo()
    message = r"^environment faulty: observation of agent left at step 3, entry 0 \(copy 1\): got nan"
    assert np.isfinite(algo.evaluate()["env_runners"]["episode_return_mean"])
    with pytest.raises(ConfigError, match=message):
        algo.evaluate()
    algo.stop()


def test_greedy_episodes_with_what_is_no_number_give_no_score(small) -> None:
    algo = on_faulty(small, QMixConfig(), field="obs", episode=1).build_algo()
    with pytest.raises(ConfigError, match=r"^environment faulty: observation of agent left at step 3, entry 0"):
        algo.evaluate_greedy(3)
    algo.stop()


@pytest.fixture
def spoilt(small):
    """An algorithm with one weight that is no number, and the weight."""
    algo = small(K24QMixConfig()).k24(total_env_steps=1000)
    algo = algo.evaluation(evaluation_interval=1, evaluation_duration=4).build_algo()
    algo.policy.masked_layers()[1].weight.data[3, 2] = NAN
    yield algo
    algo.stop()


def test_a_policy_of_nan_gets_no_score_and_no_checkpoint(spoilt, tmp_path: Path) -> None:
    where = r"^policy: agent.fc2.weight: got nan and 0 more of 64 values that are no finite numbers, so it "
    for ask in (spoilt.evaluate, lambda: spoilt.evaluate_greedy(3)):
        with pytest.raises(ConfigError, match=where + "gets no score$"):
            ask()
    with pytest.raises(ConfigError, match=where + "is not saved$"):
        spoilt.save_to_path(tmp_path / "kept")
    assert not list((tmp_path / "kept").rglob("*.pkl"))


def test_a_checkpoint_of_nan_from_before_is_refused(spoilt, tmp_path: Path) -> None:
    spoilt.policy.check_finite = lambda so: None  # as it was before
    kept = spoilt.save_to_path(tmp_path / "kept")
    for take_up in (K24QMix.from_checkpoint, lambda path: evaluate_checkpoint(Path(path), episodes=2)):
        with pytest.raises(ConfigError, match=r"^checkpoint: model: agent.fc2.weight: got nan .* is not taken up$"):
            take_up(kept)


def test_values_that_overflow_get_no_score(small) -> None:
    algo = small(QMixConfig()).build_algo()
    with torch.no_grad():
        for parameter in algo.policy.model.agent.parameters():
            parameter.fill_(1e30)
    algo.policy.check_finite("")
    with pytest.raises(ConfigError, match=r"^policy: its action values are no finite numbers \(got inf\)"):
        algo.evaluate_greedy(3)
    algo.stop()


@pytest.mark.parametrize("replay", ["uniform", "prioritized"])
def test_a_run_that_only_skips_stops_and_leaves_batch_and_state(small, replay: str) -> None:
    config = small(K24QMixConfig()).k24(total_env_steps=1000).training(lr=1e30, replay=replay, max_skipped_updates=3)
    config.training(target_update_tau=0.01)
    algo = config.build_algo()
    with pytest.raises(DivergedError, match=r"^3 updates in a row had no finite loss and gradient") as caught:
        train(algo, 10)
    directory = Path(algo.logdir) / "diverged"
    assert str(directory) in str(caught.value)
    algo.policy.check_finite("")

    again = K24QMix.from_checkpoint(directory / "state")
    assert again.policy.guard.get_state() == algo.policy.guard.get_state()
    for name, value in algo.policy.model.state_dict().items():
        assert torch.equal(again.policy.model.state_dict()[name], value)
    arrays = dict(np.load(directory / "batch.npz"))
    importance = arrays.pop("importance", None)
    assert (importance is not None) == (replay == "prioritized")
    again.policy.learn_on_batch(EpisodeBatch(**arrays), importance=importance)
    assert again.policy.update_made is False
    assert again.policy.guard.in_a_row == 4
    again.stop()
    algo.stop()


def test_a_step_too_large_for_its_type_is_found_at_the_next(small) -> None:
    """Adam's step is the learning rate: beyond float32 it makes weights of infinity out of finite gradients."""
    algo = small(QMixConfig()).training(lr=1e39, max_skipped_updates=2).build_algo()
    with pytest.raises(DivergedError, match=r"^2 updates in a row .* can't be saved in .*no finite numbers"):
        train(algo, 5)
    algo.stop()


def test_one_bad_batch_is_skipped_counted_and_survived(small) -> None:
    """An update whose numbers overflow now and then is no reason to stop."""
    algo = small(QMixConfig()).training(target_update_tau=0.01, lr=1e-3).build_algo()
    algo.train()
    good = algo.policy.reward_moments.std
    algo.policy.reward_moments.standardise = lambda rewards: rewards * 1e30
    target = {name: value.clone() for name, value in algo.policy.target_model.state_dict().items()}
    algo._learn(4)  # two updates
    assert all(torch.equal(value, target[name]) for name, value in algo.policy.target_model.state_dict().items())
    del algo.policy.reward_moments.standardise
    result = algo.train()
    metrics = result["info"]["learner"]["default_policy"]
    assert metrics["updates_skipped"] == 2
    assert np.isfinite(metrics["loss"])
    assert good > 0
    algo.stop()


def test_the_command_line_says_it_in_one_line(call, write, tiny, tmp_path: Path) -> None:
    tiny["config"] |= {"lr": 1e30, "max_skipped_updates": 2}
    tiny["stop"] = {"timesteps_total": 4000}
    tiny["checkpoint_config"] = {"checkpoint_frequency": 1}
    shown = call("train", "-f", write(tiny), "--storage-path", tmp_path)
    assert shown.returncode == 1
    (line,) = [line for line in shown.stderr.splitlines() if "rllib: error" in line]
    assert "failed: 2 updates in a row had no finite loss and gradient" in line
    (directory,) = tmp_path.glob("tiny/*/diverged")
    assert f"batch and state are in {directory}" in line
    assert "greedy return" not in shown.stdout
    (saved,) = [line for line in shown.stdout.splitlines() if line.startswith("checkpoint ")]
    assert Path(saved.split()[1]).is_dir()
