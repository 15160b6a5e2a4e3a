"""Prioritised replay through RLlib: it trains every method, repeats from its seed, and resumes as if never stopped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.qmix import EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer

CONFIGS = {
    "QMix": QMixConfig,
    "K24QMix": lambda: K24QMixConfig().k24(total_env_steps=400),
    "KaleidoscopeQMix": lambda: KaleidoscopeQMixConfig().kaleidoscope(total_env_steps=400),
}
METRICS = {"replay_beta", "importance_mean"}


def learner(result: dict) -> dict:
    return result["info"]["learner"]["default_policy"]


def prioritized(small, name: str = "QMix", **training):
    return small(CONFIGS[name]()).training(replay="prioritized", replay_beta_timesteps=160, **training)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("name", CONFIGS)
def test_every_method_trains_with_it(small, name: str) -> None:
    algo = prioritized(small, name).build_algo()
    seen = [learner(algo.train()) for _ in range(2)]
    assert [metrics["replay_beta"] for metrics in seen] == pytest.approx([0.55, 0.7])  # at 40 and 80 of 160 steps
    assert all(0 < metrics["importance_mean"] <= 1 for metrics in seen)
    assert np.isfinite([metrics["loss"] for metrics in seen]).all()
    buffer = algo.local_replay_buffer
    assert isinstance(buffer, PrioritizedEpisodeReplayBuffer)
    assert len(set(buffer.get_state()["priorities"])) > 4  # errors came back
    algo.stop()


@pytest.mark.usefixtures("ray_session")
def test_uniform_replay_is_as_it_was(small) -> None:
    algo = small(QMixConfig()).build_algo()
    assert not METRICS & learner(algo.train()).keys()
    assert type(algo.local_replay_buffer) is EpisodeReplayBuffer
    algo.stop()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("workers", "ahead"), [(0, 0), (2, 0), (1, 1), (2, 1)])
def test_a_seed_repeats_a_run_to_the_last_bit(small, workers: int, ahead: int) -> None:
    def run(seed: int) -> tuple[list[dict], list[float]]:
        config = prioritized(small, "K24QMix", rollouts_ahead=ahead).debugging(seed=seed)
        algo = config.env_runners(num_env_runners=workers).build_algo()
        metrics = [learner(algo.train()) for _ in range(3)]
        priorities = algo.local_replay_buffer.get_state()["priorities"].tolist()
        algo.stop()
        return metrics, priorities

    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert first != other


@pytest.mark.usefixtures("ray_session")
def test_a_resumed_run_draws_and_learns_what_one_never_stopped_does(small, tmp_path: Path) -> None:
    algo = prioritized(small, store_buffer_in_checkpoints=True).build_algo()
    for _ in range(2):
        algo.train()
    restored = Algorithm.from_checkpoint(algo.save_to_path(tmp_path / "checkpoint"))
    new = algo.local_replay_buffer.sample(4)
    np.testing.assert_array_equal(restored.local_replay_buffer.sample(4).indices, new.indices)
    outcomes = []
    for each in (algo, restored):
        torch.manual_seed(5)
        each._take_in(new.episodes)  # rollouts draw on their own; the learner gets the same
        each._learn(8)
        outcomes.append(each.learner_metrics(each._last_update))
    assert outcomes[0] == outcomes[1]
    ours, theirs = (each.local_replay_buffer.get_state() for each in (algo, restored))
    np.testing.assert_array_equal(ours["priorities"], theirs["priorities"])
    assert ours["rng"] == theirs["rng"]
    for name, value in algo.policy.model.state_dict().items():
        assert torch.equal(restored.policy.model.state_dict()[name], value), name
    algo.stop()
    restored.stop()


@pytest.mark.parametrize("mixer", ["qmix", "independent"])
def test_priorities_are_of_each_agent_where_the_mixer_keeps_them_apart(small, bare_policy, mixer: str) -> None:
    policy, episodes = bare_policy(small(QMixConfig()).training(mixer=mixer))
    policy.learn_on_batch(episodes)
    errors, valid = policy._last_errors
    assert errors.shape == (5, 8, 2 if mixer == "independent" else 1)
    if mixer == "independent":
        assert (errors[..., 0] != errors[..., 1]).any()
    torch.testing.assert_close(policy.last_priorities(), errors.abs().mean((0, 2)))
    assert valid.all()


def test_weights_of_one_learn_as_no_weights(small, bare_policy) -> None:
    plain, episodes = bare_policy(small(K24QMixConfig()))
    weighted, _ = bare_policy(small(K24QMixConfig()))
    other, _ = bare_policy(small(K24QMixConfig()))
    for policy, importance in ((plain, None), (weighted, np.ones(8)), (other, np.linspace(0.1, 1, 8))):
        torch.manual_seed(1)
        policy.learn_on_batch(episodes, importance=None if importance is None else importance.astype(np.float32))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(weighted.model.state_dict()[name], value), name
    assert not torch.equal(other.model.agent.fc1.weight, plain.model.agent.fc1.weight)


def test_its_metrics_are_explained() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE)) >= METRICS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay": "priority"}, "replay: got 'priority', expected .*; did you mean 'prioritized'"),
        ({"replay": "prioritized", "replay_alpha": 1.5}, "replay_alpha: got 1.5, expected .* at most 1.0"),
        ({"replay": "prioritized", "replay_beta_initial": -0.1}, "replay_beta_initial: got -0.1"),
        ({"replay": "prioritized", "replay_beta_final": "one"}, "replay_beta_final: got 'one', expected a number"),
        ({"replay": "prioritized", "replay_beta_timesteps": 1.5}, "replay_beta_timesteps: got 1.5, expected a whole"),
        ({"replay": "prioritized", "replay_epsilon": 0.0}, "replay_epsilon: got 0.0, expected a number above 0.0"),
        ({"replay_alpha": 0.5}, "replay_alpha: got 0.5 with replay 'uniform', .*: it has no effect"),
        ({"replay": "uniform", "replay_beta_timesteps": 9}, "replay_beta_timesteps: got 9 with replay 'uniform'"),
    ],
)
@pytest.mark.parametrize("from_file", [True, False])
def test_impossible_settings_are_named(small, settings: dict, message: str, from_file: bool) -> None:
    config = small(QMixConfig())
    with pytest.raises(ConfigError, match=message) as caught:
        (config.apply_dict(settings) if from_file else config.training(**settings)).validate()
    assert "\n" not in str(caught.value)
