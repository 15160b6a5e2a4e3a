"""What a population's clone takes over, and that its changed settings act: a new algorithm on another's checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig
from k24_rllib.experiments.population import FIXED

pytestmark = pytest.mark.usefixtures("ray_session")

CHANGED: dict[str, Any] = {
    "lr": 0.0123,
    "adam_epsilon": 1e-3,
    "gamma": 0.77,
    "td_lambda": 0.3,
    "grad_clip": 0.5,
    "train_batch_size": 5,
    "updates_per_episode": 1.25,
    "target_update_tau": 0.25,
    "replay_alpha": 0.9,
    "replay_beta_initial": 0.6,
    "replay_beta_final": 0.8,
    "replay_epsilon": 0.02,
    "epsilon_initial": 0.9,
    "epsilon_final": 0.4,
    "epsilon_timesteps": 10,
    "temperature_init": 0.9,
    "temperature_final": 0.3,
    "temperature_end": 0.1,
    "ema_momentum": 0.5,
    "div_coef": 0.44,
    "estimator": "reinmax",
    "target_masks": "own",
    "diversity": "js",
    "reset_fraction": 0.2,
}
"""A changed value of every setting that acts all the time."""


def build(small: Callable[..., Any], **settings: Any) -> Any:
    config = small(K24QMixConfig()).training(replay="prioritized", target_update_tau=0.01, **settings)
    return config.training(store_buffer_in_checkpoints=True, total_env_steps=2_000).build_algo()


@pytest.fixture
def clone(small: Callable[..., Any], tmp_path: Path) -> Any:
    """A donor that has learned, and a clone of it with changed settings."""
    donor = build(small)
    for _ in range(4):
        donor.train()
    donor.save_to_path(tmp_path)
    changed = dict(CHANGED)
    tau = changed.pop("target_update_tau")
    config = small(K24QMixConfig()).training(replay="prioritized", store_buffer_in_checkpoints=True)
    config.training(total_env_steps=2_000, target_update_tau=tau, **changed)
    taker = config.build_algo()
    taker.restore_from_path(tmp_path)
    yield donor, taker
    donor.stop()
    taker.stop()


def test_a_clone_takes_over_all_that_was_learned(clone: Any) -> None:
    donor, taker = clone
    for network in ("model", "target_model"):
        for name, value in getattr(donor.policy, network).state_dict().items():
            assert torch.equal(value, getattr(taker.policy, network).state_dict()[name]), name
    mine, its = (algo.policy._optimizers[0].state_dict()["state"] for algo in (donor, taker))
    assert all(torch.equal(mine[key]["exp_avg"], its[key]["exp_avg"]) for key in mine)
    assert donor.policy.reward_moments.get_state() == taker.policy.reward_moments.get_state()
    for key in ("num_env_steps_sampled", "num_episodes_sampled", "num_updates"):
        assert donor._counters[key] == taker._counters[key] > 0, key
    episodes, same = (algo.local_replay_buffer.get_state()["episodes"] for algo in (donor, taker))
    assert all(np.array_equal(episodes[name], same[name]) for name in episodes)


def test_every_changed_setting_acts_in_the_learner(clone: Any) -> None:
    _, taker = clone
    policy, buffer = taker.policy, taker.local_replay_buffer
    result = taker.train()
    learned = result["info"]["learner"]["default_policy"]
    (group,) = policy._optimizers[0].param_groups
    assert (group["lr"], group["eps"], learned["lr"]) == (0.0123, 1e-3, 0.0123)
    assert (policy.epsilon(), learned["epsilon"]) == (0.4, 0.4)
    assert policy.diversity.div_coef == 0.44
    assert learned["temperature"] == pytest.approx(0.9 - (0.9 - 0.3) * min(policy.progress() / 0.1, 1.0), abs=0.1)
    assert all(layer.estimator == "reinmax" for layer in policy.masked_layers())
    assert all(layer.tracker.momentum == 0.5 for layer in policy.masked_layers())
    assert (buffer._alpha, buffer._epsilon) == (0.9, 0.02)
    assert 0.6 <= buffer.beta <= 0.8
    for key, value in CHANGED.items():
        assert policy.config[key] == getattr(taker.config, key) == value, key


def test_updates_and_the_target_follow_the_changed_settings(clone: Any) -> None:
    _, taker = clone
    updates, episodes, owed = (taker._counters[key] for key in ("num_updates", "num_episodes_sampled", "updates_owed"))
    taker.train()
    played = taker._counters["num_episodes_sampled"] - episodes
    assert taker._counters["num_updates"] - updates == int(owed + played * 1.25)

    before = [value.clone() for value in taker.policy.target_model.parameters()]
    taker._counters["updates_owed"] = 1.0
    taker._learn(0)
    pairs = zip(before, taker.policy.target_model.parameters(), taker.policy.model.parameters(), strict=True)
    assert all(torch.allclose(now, old + 0.25 * (online - old), atol=1e-6) for old, now, online in pairs)


def test_every_setting_can_be_changed_or_says_why_not() -> None:
    """Those left take effect at events, not all the time: resets and hard target updates read the same config."""
    events = {"learning_starts_episodes", "target_update_episodes", "replay_beta_timesteps", "temperature_schedule"}
    events |= {"sampling", "rao_blackwell_samples", "reset_interval", "revive", "ema_reset_step", "kl_reset"}
    events |= {"kl_threshold", "kl_min_interval", "finetune_lr_factor", "max_skipped_updates"}
    assert set(K24QMixConfig.settings()) == set(CHANGED) | events | (set(FIXED) & set(K24QMixConfig.settings()))
