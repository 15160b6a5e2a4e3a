"""Settings that say how far agents' masks may differ, and what the target network is, in real updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig, QMixConfig
from k24_rllib.checks import ConfigError

pytestmark = pytest.mark.usefixtures("ray_session")


def made(small: Any, **settings: Any) -> Any:
    return small(K24QMixConfig()).training(total_env_steps=2_000, **settings).build_algo()


def groups(algo: Any) -> list[dict[str, Any]]:
    (optimizer,) = algo.get_policy()._optimizers
    return optimizer.param_groups


def test_alpha_learns_at_a_rate_of_its_own(small: Any) -> None:
    algo = made(small, alpha_lr_factor=10.0, lr=[[0, 1e-3], [1_000, 1e-4]])
    alphas = {layer.hetero_alpha for layer in algo.policy.masked_layers()}
    others, own = groups(algo)
    assert set(own["params"]) == alphas
    assert not alphas & set(others["params"])
    assert len(others["params"]) + len(alphas) == len(list(algo.policy.model.parameters()))
    for _ in range(3):
        algo.train()
        assert own["lr"] == pytest.approx(10.0 * others["lr"])
    assert others["lr"] < 1e-3  # the schedule goes on, for both
    algo.stop()


def test_a_restored_run_has_both_rates(small: Any, tmp_path: Any) -> None:
    algo = made(small, alpha_lr_factor=10.0)
    algo.train()
    algo.save_to_path(tmp_path)
    algo.stop()
    again = made(small, alpha_lr_factor=10.0)
    again.restore_from_path(tmp_path)
    others, own = groups(again)
    assert own["lr"] == pytest.approx(10.0 * others["lr"])
    before = [layer.hetero_alpha.detach().clone() for layer in again.policy.masked_layers()]
    again.train()
    after = [layer.hetero_alpha.detach() for layer in again.policy.masked_layers()]
    assert any((new != old).any() for new, old in zip(after, before, strict=True))
    again.stop()


def test_a_restored_run_takes_its_own_factor_or_says_why_not(small: Any, tmp_path: Any) -> None:
    algo = made(small, alpha_lr_factor=10.0)
    algo.save_to_path(tmp_path)
    algo.stop()
    changed = made(small, alpha_lr_factor=5.0)
    changed.restore_from_path(tmp_path)
    others, own = groups(changed)
    assert own["lr"] == pytest.approx(5.0 * others["lr"])
    changed.stop()
    without = made(small)
    with pytest.raises(ConfigError, match=r"alpha_lr_factor: got 1.0 with a checkpoint .* in which it was not 1.0"):
        without.restore_from_path(tmp_path)
    without.stop()


def test_the_target_draws_masks_of_its_own_where_asked(small: Any) -> None:
    for target_masks, drawn in (("likeliest", False), ("own", True), ("online", False)):
        algo = made(small, target_masks=target_masks, temperature_init=5.0, temperature_final=5.0)
        online = algo.policy.model.agent.weights(explore=True)
        first, second = (algo.policy.target_weights(online).layers[1].weights for _ in range(2))
        assert bool((first != second).any()) is drawn
        same = bool(((first != 0) == (online.layers[1].weights != 0)).all())
        assert same is (target_masks == "online")
        algo.train()
        algo.stop()


def test_under_the_online_draw_the_target_keeps_its_own_weights(small: Any) -> None:
    algo = made(small, target_masks="online", pattern="2:4")
    policy = algo.policy
    with torch.no_grad():
        for layer in policy.target_model.agent.layers():
            layer.weight.fill_(3.0)
    online = policy.model.agent.weights(explore=True)
    for its, drawn in zip(policy.target_weights(online).layers, online.layers, strict=True):
        assert its.weights.unique().tolist() == [0.0, 3.0]
        assert ((its.weights != 0) == (drawn.weights != 0)).all()
    policy.freeze_masks()
    frozen = policy.target_weights(policy.model.agent.weights(explore=True))
    assert all((its.weights != 0).any() for its in frozen.layers)
    algo.stop()


@pytest.mark.parametrize("config", [QMixConfig, K24QMixConfig])
def test_each_owners_scale_is_learned(small: Any, config: Any) -> None:
    algo = small(config()).training(owner_scale=True).build_algo()
    while "loss_td" not in algo.train()["info"]["learner"].get("default_policy", {}):
        pass
    for layer in algo.policy.model.agent.layers():
        gain = layer.owner_gain.detach()
        assert (gain != 1.0).any()
        assert (gain[0] != gain[1]).any()
    weights = algo.policy.get_weights()
    assert any("owner_gain" in name for name in weights)
    assert all(np.isfinite(value).all() for value in weights.values())
    algo.stop()


def test_scores_of_alpha_keep_masks_apart(small: Any) -> None:
    similar = {}
    for scores in ("magnitude", "alpha"):
        torch.manual_seed(0)
        algo = made(small, scores=scores, alpha_std=1.0 if scores == "alpha" else 0.01)
        result: dict[str, Any] = {}
        while "pattern_mean_similarity" not in result:
            result = algo.train()["info"]["learner"].get("default_policy", {})
        similar[scores] = float(result["pattern_mean_similarity"])
        algo.stop()
    assert similar["alpha"] < 0.4 < similar["magnitude"]
