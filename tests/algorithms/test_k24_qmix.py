"""K24QMix and QMix from Python, through RLlib and Ray Tune, for real and small."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm

import k24_rllib
from k24_rllib import K24QMix, K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.checks import ConfigError

pytestmark = pytest.mark.usefixtures("ray_session")

CONFIGS = {
    "QMix": QMixConfig,
    "independent networks": lambda: QMixConfig().training(layer="independent"),
    "hyper": lambda: QMixConfig().training(layer="hyper"),
    "K24QMix": lambda: K24QMixConfig().k24(total_env_steps=200),
    "KaleidoscopeQMix": lambda: KaleidoscopeQMixConfig().kaleidoscope(total_env_steps=200),
}


def learner(result: dict) -> dict:
    return result["info"]["learner"]["default_policy"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("env", ["mpe_simple_spread", "mpe_simple_reference", "mpe_simple_speaker_listener"])
def test_every_algorithm_trains_on_every_environment(small, name: str, env: str) -> None:
    algo = small(CONFIGS[name](), env).build_algo()
    result = algo.train()
    assert result["timesteps_total"] >= 40
    assert np.isfinite(learner(result)["loss_td"])
    assert np.isfinite(result["env_runners"]["episode_return_mean"])
    algo.stop()


@pytest.mark.parametrize(
    "training",
    [
        {"mixer": "vdn"},
        {"mixer": "independent"},
        {"agent": "feedforward"},
        {"last_action_input": True},
        {"agent_id_input": False},
        {"standardise_rewards": False},
        {"target_update_tau": 0.1},
        {"grad_clip": 0.01},
        {"td_lambda": 0.5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_option_trains_and_changes_the_outcome(small, training: dict) -> None:
    def losses(options: dict) -> list[float]:
        algo = small(CONFIGS["K24QMix"]()).training(**options).build_algo()
        values = [learner(algo.train())["loss"] for _ in range(2)]
        algo.stop()
        return values

    changed = losses(training)
    assert np.isfinite(changed).all()
    assert changed != losses({})


@pytest.mark.parametrize(
    ("workers", "copies", "ahead"),
    [(0, 1, 0), (0, 5, 0), (0, 16, 0), (2, 3, 0), (1, 4, 1), (2, 4, 1), (1, 4, 2)],
)
def test_a_seed_repeats_a_run_to_the_last_bit(small, workers: int, copies: int, ahead: int) -> None:
    """Whatever the number of copies and workers, and though workers play ahead of the learner."""

    def run(seed: int) -> list[dict]:
        config = small(CONFIGS["K24QMix"]()).training(rollouts_ahead=ahead).debugging(seed=seed)
        algo = config.env_runners(num_env_runners=workers, num_envs_per_env_runner=copies).build_algo()
        results = [algo.train() for _ in range(3)]
        algo.stop()
        kept = ("episode_return_mean", "episode_return_max", "num_episodes")
        return [learner(result) | {key: result["env_runners"][key] for key in kept} for result in results]

    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert np.isfinite(first[-1]["loss"])
    assert first != other


def test_workers_play_ahead_with_weights_as_old_as_said(small) -> None:
    """With `rollouts_ahead` of 1, a round is played with the weights from before the last round's updates."""
    algo = small(QMixConfig()).training(rollouts_ahead=1).env_runners(num_env_runners=1).build_algo()

    def weights(worker):
        return worker.get_weights()["default_policy"]["fc1.weight"].copy()

    seen = []
    for _ in range(4):
        algo.training_step()
        # The call queues behind the round in flight, so these are the weights that it is played with.
        (playing,) = algo.env_runner_group.foreach_env_runner(weights, local_env_runner=False)
        seen.append((weights(algo.env_runner), playing))
    assert algo.policy.num_grad_updates >= 4
    for (before, _), (after, playing) in pairwise(seen):
        np.testing.assert_array_equal(playing, before)
        assert (after != before).any()
    algo.stop()


def test_every_round_played_ahead_is_counted_once(small) -> None:
    algo = small(QMixConfig()).training(rollouts_ahead=2).env_runners(num_env_runners=2).build_algo()
    result = [algo.train() for _ in range(3)][-1]
    assert result["timesteps_total"] == 3 * 40
    assert result["env_runners"]["num_episodes"] == 8  # two workers, four copies, five steps: 40 steps an iteration
    assert len(algo.local_replay_buffer) == 16
    algo.stop()


def test_patterns_are_measured_and_exactly_half_dense(small) -> None:
    algo = small(CONFIGS["K24QMix"]()).k24(temperature_init=5.0, temperature_final=0.2).build_algo()
    metrics = learner(algo.train())
    assert metrics["overall_sparsity"] == 0.5
    assert 1.5 < metrics["pattern_entropy"] <= np.log2(6) + 1e-6
    assert sum(metrics[f"pattern_{k}_prob"] for k in range(6)) == pytest.approx(1, abs=1e-5)
    assert metrics["loss"] == pytest.approx(metrics["loss_td"] + metrics["div_coef"] * metrics["div_loss"], rel=1e-4)
    algo.stop()


def test_saved_and_restored_acts_the_same_and_goes_on_the_same(small, tmp_path: Path) -> None:
    algo = small(CONFIGS["K24QMix"]().training(store_buffer_in_checkpoints=True)).build_algo()
    for _ in range(2):
        algo.train()
    checkpoint = algo.save_to_path(tmp_path / "checkpoint")
    expected = algo.evaluate_greedy(10, seed=7)["episode_returns"]
    restored = Algorithm.from_checkpoint(str(checkpoint))
    assert isinstance(restored, K24QMix)
    np.testing.assert_array_equal(restored.evaluate_greedy(10, seed=7)["episode_returns"], expected)
    assert restored.iteration == algo.iteration
    assert restored.policy.epsilon() == algo.policy.epsilon()

    batch = algo.local_replay_buffer.sample(4).episodes
    for both in (algo, restored):
        torch.manual_seed(3)
        both.policy.learn_on_batch(batch)
        both.policy.update_target(0.5)
    for ours, theirs in (
        (algo.policy.model, restored.policy.model),
        (algo.policy.target_model, restored.policy.target_model),
    ):
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(theirs.state_dict()[name], value, rtol=0, atol=0, msg=name)
    algo.stop()
    restored.stop()


def test_weights_and_temperature_reach_remote_workers(small) -> None:
    algo = small(CONFIGS["K24QMix"]()).env_runners(num_env_runners=2).build_algo()
    result = algo.train()
    assert result["num_healthy_workers"] == 2
    temperature = learner(result)["temperature"]
    assert temperature < 5.0

    def state(worker):
        weights = worker.get_weights()["default_policy"]
        return {name: value.copy() for name, value in weights.items()}, worker.global_vars["timestep"]

    ours, _ = state(algo.env_runner)
    assert ours["fc1.temperature"] == pytest.approx(temperature)
    algo.training_step()  # with what was learned before it
    _, *theirs = algo.env_runner_group.foreach_env_runner(state)
    for weights, timestep in theirs:
        assert timestep == result["timesteps_total"]
        for name, value in ours.items():
            np.testing.assert_array_equal(weights[name], value, err_msg=name)
    algo.stop()


def test_remote_workers_play_different_episodes(small) -> None:
    algo = small(QMixConfig()).env_runners(num_env_runners=2).build_algo()
    algo.training_step()
    batch = algo.local_replay_buffer.sample(8).episodes
    assert len({episode.tobytes() for episode in batch.obs[:, 0]}) == 8
    algo.stop()


def test_evaluation_counts_whole_greedy_episodes(small) -> None:
    config = small(CONFIGS["K24QMix"]()).evaluation(evaluation_interval=1, evaluation_duration=6)
    algo = config.build_algo()
    result = algo.train()["evaluation"]["env_runners"]
    assert result["num_episodes"] == 6
    assert result["episode_len_mean"] == 5
    algo.stop()


def test_tune_finds_the_algorithm_by_name(small, tmp_path: Path) -> None:
    config = small(CONFIGS["K24QMix"]()).training(lr=tune.grid_search([1e-3, 1e-4]))
    tuner = tune.Tuner(
        "K24QMix",
        param_space=config.to_dict(),
        run_config=tune.RunConfig(stop={"training_iteration": 1}, storage_path=str(tmp_path), verbose=0),
    )
    results = tuner.fit()
    assert not results.errors
    assert {result.config["lr"] for result in results} == {1e-3, 1e-4}


def test_a_new_ray_after_a_shutdown_can_build_again(small) -> None:
    ray.shutdown()
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    algo = small(CONFIGS["K24QMix"]()).build_algo()
    assert np.isfinite(algo.train()["env_runners"]["episode_return_mean"])
    algo.stop()
    k24_rllib.register_all()


def test_rllibs_own_way_to_act_works(small) -> None:
    algo = small(CONFIGS["K24QMix"]()).build_algo()
    env = algo.make_env(1)
    step = env.reset(0)
    observation = {
        "obs": step.obs[0],
        "avail_actions": step.avail_actions[0].astype(np.float32),
        "state": step.state[0],
        "mask_ids": step.mask_ids[0].astype(np.float32),
    }
    state = [part.numpy() for part in algo.policy.model.get_initial_state()]
    actions, state, _ = algo.compute_single_action(observation, state, explore=False)
    assert env.step(np.asarray(actions)[None]).obs.shape == step.obs.shape
    env.close()
    algo.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.k24(temperature_init=0), r"temperature_init: got 0, expected a number above 0"),
        (lambda c: c.k24(sampling="tempred"), r"did you mean 'tempered'"),
        (lambda c: c.training(gamma=1.5), r"gamma: got 1.5"),
        (lambda c: c.training(mixer="qmx"), r"did you mean 'qmix'"),
        (lambda c: c.training(buffer_episodes=2), r"buffer_episodes: got 2, expected at least train_batch_size \(4\)"),
        (lambda c: c.apply_dict({"temperature_int": 2}), r"unknown config key 'temperature_int' of K24QMix; did you "),
        (lambda c: c.apply_dict({"num_env_runners": "two"}), r"num_env_runners: got 'two', expected a whole number"),
        (lambda c: c.apply_dict({"env_config": 3}), r"env_config: got 3, expected keys and values"),
    ],
)
def test_impossible_settings_are_named_before_anything_is_built(small, change, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        change(small(K24QMixConfig())).validate()
    assert "\n" not in str(caught.value)


def test_the_package_names_what_it_registers() -> None:
    assert set(k24_rllib.ALGORITHMS) == {"QMix", "K24QMix", "KaleidoscopeQMix"}
    assert k24_rllib.ALGORITHMS["K24QMix"]().algo_class is K24QMix
