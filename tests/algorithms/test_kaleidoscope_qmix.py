"""KaleidoscopeQMix through RLlib, for real and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig, KaleidoscopeQMix, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.callbacks import KaleidoscopeResetCallback
from k24_rllib.checks import ConfigError


def kaleidoscope(small, **settings) -> KaleidoscopeQMixConfig:
    return small(KaleidoscopeQMixConfig()).kaleidoscope(**{"total_env_steps": 400, **settings})


def learner(result: dict) -> dict:
    return result["info"]["learner"]["default_policy"]


@pytest.mark.usefixtures("ray_session")
def test_it_trains_resets_and_reports(small) -> None:
    algo = kaleidoscope(small, reset_interval=80, reset_fraction=1.0).build_algo()
    seen = [learner(algo.train()) for _ in range(10)]
    # Every multiple of 80 steps, at 40 steps an iteration, but not in the last 80.
    assert [metrics["resets_total"] for metrics in seen] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    last = seen[-1]
    assert last["progress"] == 1.0
    assert last["loss"] == pytest.approx(last["loss_td"] + last["div_coef"] * last["div_loss"], rel=1e-4)
    assert last["div_loss"] < 0
    sparsity = [last[f"sparsity_layer_{i}"] for i in range(4)]
    assert min(sparsity) <= last["overall_sparsity"] <= max(sparsity)
    assert 0 < last["mask_difference"] < 1
    assert 0 <= last["dead_weights"] <= last["overall_sparsity"]
    assert np.isfinite(list(last.values())).all()
    algo.stop()


@pytest.mark.usefixtures("ray_session")
def test_a_checkpoint_restores_everything(small, tmp_path: Path) -> None:
    algo = kaleidoscope(small, reset_interval=40).training(store_buffer_in_checkpoints=True).build_algo()
    for _ in range(3):
        algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    restored = KaleidoscopeQMix.from_checkpoint(str(tmp_path / "checkpoint"))
    assert restored.policy.record.resets_total == 3
    batch = algo.local_replay_buffer.sample(4).episodes
    for both in (algo, restored):
        both.policy.global_timestep = 160  # with a reset
        both.policy.learn_on_batch(batch)
        assert both.policy.record.resets_total == 4
    for name, value in algo.policy.model.state_dict().items():
        assert torch.equal(restored.policy.model.state_dict()[name], value), name
    expected = algo.evaluate_greedy(8, seed=1)["episode_returns"]
    np.testing.assert_array_equal(restored.evaluate_greedy(8, seed=1)["episode_returns"], expected)
    algo.stop()
    restored.stop()


def test_the_diversity_loss_pulls_masks_apart_and_only_thresholds(small, bare_policy) -> None:
    """Of two runs on the same batches, the one with the loss ends with masks that differ more."""

    def difference(div_coef: float) -> float:
        policy, episodes = bare_policy(kaleidoscope(small, div_coef=div_coef).training(lr=5e-2))
        for layer in policy.masked_layers():  # near enough to the weights for Adam's steps to carry them across
            layer.thresholds.data = torch.logit(torch.rand_like(layer.thresholds) * 0.2)
        for _ in range(30):
            policy.learn_on_batch(episodes)
        return float(policy.method_metrics()["mask_difference"])

    assert difference(5.0) > 1.2 * difference(0.0)


def test_layer_weights_are_those_of_the_method_unless_given(small, bare_policy) -> None:
    losses = {}
    for weights in (None, [1, 2, 4, 8], [0, 0, 0, 8]):
        policy, episodes = bare_policy(kaleidoscope(small, div_layer_weights=weights))
        losses[str(weights)] = float(policy.learn_on_batch(episodes)["div_loss"])
    assert losses["None"] == losses["[1, 2, 4, 8]"] < losses["[0, 0, 0, 8]"] <= 0


def test_thresholds_start_as_given(small, bare_policy) -> None:
    policy, _ = bare_policy(kaleidoscope(small, threshold_scale=1.0, threshold_bias=2.0))
    for layer in policy.masked_layers():
        assert -3.0 <= layer.thresholds.min() <= layer.thresholds.max() <= -2.0
    (optimizer,) = policy._optimizers
    learned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert {id(layer.thresholds) for layer in policy.masked_layers()} <= learned


def test_a_users_callback_takes_the_resets_place(small) -> None:
    class Never(KaleidoscopeResetCallback):
        def due(self, policy) -> bool:
            return False

    config = kaleidoscope(small).callbacks(Never)
    config.validate()
    assert [part.__name__ for part in getattr(config.callbacks_class, "parts", (config.callbacks_class,))] == ["Never"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold_scale": -1.0}, "threshold_scale: got -1.0"),
        ({"div_coef": -0.5}, "div_coef: got -0.5"),
        ({"div_window": 0}, "div_window: got 0"),
        ({"div_layer_weights": 2.0}, "div_layer_weights: got 2.0, expected a number for each masked layer"),
        ({"div_layer_weights": [1, 2, 4, -8]}, "div_layer_weights: got -8"),
        ({"reset_fraction": 1.5}, "reset_fraction: got 1.5"),
        ({"reset_interval": -1}, "reset_interval: got -1"),
        ({"reset_interval": 500}, "reset_interval: got 500 with total_env_steps 400"),
        ({"total_env_steps": 0}, "total_env_steps: got 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_named(small, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        kaleidoscope(small, **change).validate()
    assert "\n" not in str(caught.value)


def test_as_many_layer_weights_are_wanted_as_the_agent_has_masked_layers(small) -> None:
    for agent, layers in (("gru", 4), ("feedforward", 5)):
        kaleidoscope(small, div_layer_weights=[1.0] * layers).training(agent=agent).build_policy()
        with pytest.raises(ConfigError, match=rf"div_layer_weights: got \[1, 2\], expected {layers} numbers"):
            kaleidoscope(small, div_layer_weights=[1, 2]).training(agent=agent).build_policy()


@pytest.mark.parametrize(
    ("config", "settings", "parts"),
    [
        (KaleidoscopeQMixConfig, {"temperature_init": 2.0}, ["'temperature_init'", "got 2.0", "run: K24QMix"]),
        (K24QMixConfig, {"threshold_bias": 4.0}, ["'threshold_bias'", "got 4.0", "run: KaleidoscopeQMix"]),
        (QMixConfig, {"div_window": 10}, ["'div_window'", "got 10", "run: K24QMix or run: KaleidoscopeQMix"]),
        (KaleidoscopeQMixConfig, {"treshold_bias": 4.0}, ["'treshold_bias'", "did you mean 'threshold_bias'?"]),
        (KaleidoscopeQMixConfig, {"independent_networks": True}, ["layer: got 'independent'", "run: QMix"]),
        (K24QMixConfig, {"independent_networks": True}, ["layer: got 'independent'", "run: QMix"]),
        (QMixConfig, {"independent_networks": "yes"}, ["independent_networks: got 'yes'"]),
    ],
    ids=str,
)
def test_keys_of_another_algorithm_say_whose_they_are(config, settings: dict, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config().environment("mpe_simple_spread").apply_dict(settings).build_policy()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_only_algorithms_that_can_be_run_are_named() -> None:
    """Not the base that K24QMix and KaleidoscopeQMix share, though it has the key."""
    with pytest.raises(ConfigError, match=r"expected it with run: K24QMix or run: KaleidoscopeQMix$"):
        QMixConfig().apply_dict({"div_window": 10})
