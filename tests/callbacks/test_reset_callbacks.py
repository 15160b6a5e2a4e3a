"""Periodic and adaptive resets: when, how much, and of what."""

from __future__ import annotations

import pytest
import torch

from k24_rllib import K24QMixConfig


@pytest.fixture
def resets(small, bare_policy, first_draft):
    """Returns the steps at which a run of 1,000 steps, updated every 50, resets its masks."""

    def run(**settings) -> list[int]:
        config = first_draft(small(K24QMixConfig())).training(lr=1e-2).k24(total_env_steps=1000, **settings)
        policy, episodes = bare_policy(config)
        seen, total = [], 0
        for step in range(0, 1001, 50):
            policy.on_global_var_update({"timestep": step})
            torch.manual_seed(step)
            policy.learn_on_batch(episodes)
            if policy.record.resets_total > total:
                seen.append(step)
            total = policy.record.resets_total
        return seen

    return run


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"reset_interval": 200}, [200, 400, 600]),
        ({"reset_interval": 120}, [150, 250, 400, 500, 600]),  # at the first update after 120, 240, 360, 480, 600
        ({"reset_interval": 300}, [300]),
        ({"reset_interval": 200, "finetune_at": None}, [200, 400, 600, 800]),
        ({"reset_interval": 0}, []),
        ({"reset_interval": None}, []),
        ({}, []),
    ],
)
def test_periodic_resets_come_at_multiples_and_leave_time_to_learn(resets, settings: dict, expected: list) -> None:
    assert resets(**settings) == expected


def test_adaptive_resets_wait_for_their_interval_and_for_a_change(resets) -> None:
    off = {"reset_interval": 0}
    assert resets(**off, kl_threshold=0.0, kl_min_interval=150) == []
    assert resets(**off, kl_reset=True, kl_threshold=0.0, kl_min_interval=150) == [150, 300, 450, 600]
    assert resets(**off, kl_reset=True, kl_threshold=1e6, kl_min_interval=150) == []
    # a periodic reset counts as the last one
    assert resets(reset_interval=300, kl_reset=True, kl_threshold=0.0, kl_min_interval=200) == [200, 300, 500]


def test_a_jump_of_behaviour_triggers_an_adaptive_reset(small, bare_policy) -> None:
    config = small(K24QMixConfig()).training(lr=1e-6)
    config.k24(total_env_steps=1000, reset_interval=0, kl_reset=True, kl_min_interval=0, sampling="tempered")
    policy, episodes = bare_policy(config.k24(temperature_init=0.01, temperature_final=0.01))
    totals = []
    for update in range(6):
        policy.on_global_var_update({"timestep": 100 + update})
        if update == 3:
            with torch.no_grad():
                policy.model.agent.fc4.bias[2] += 10.0  # one action is now the best by far
        policy.learn_on_batch(episodes)
        totals.append(policy.record.resets_total)
    assert totals == [0, 0, 0, 0, 1, 1]


def reset_once(policy, episodes) -> None:
    policy.on_global_var_update({"timestep": 200})
    policy.callbacks.on_learn_on_batch(policy=policy, train_batch=episodes, result={})
    assert policy.record.resets_total == 1


@pytest.mark.parametrize("fraction", [0.1, 0.5])
@pytest.mark.parametrize("revive", ["dead", "random"])
def test_a_reset_redraws_its_share_and_forgets_its_moments(small, bare_policy, fraction: float, revive: str) -> None:
    config = small(K24QMixConfig())
    config.k24(total_env_steps=1000, reset_interval=200, reset_fraction=fraction, revive=revive, ema_reset_step=0.25)
    policy, episodes = bare_policy(config)
    for _ in range(3):
        policy.learn_on_batch(episodes)
    first, layer = policy.masked_layers()[:2]
    count = round(fraction * layer.hetero_alpha[0].numel())
    layer.selection_rate.fill_(0.5)
    layer.selection_rate.flatten(1)[:, :count] = 0.0  # the dead ones
    untouched, alpha = first.hetero_alpha.clone(), layer.hetero_alpha.clone()
    average = layer.tracker.value.clone()
    reset_once(policy, episodes)

    redrawn = layer.hetero_alpha != alpha
    assert (redrawn.flatten(1).sum(1) == count).all()
    assert redrawn.flatten(1)[:, :count].all() == (revive == "dead")
    assert layer.hetero_alpha[redrawn].std().item() == pytest.approx(0.01, rel=0.5)
    (optimizer,) = policy._optimizers
    moments = optimizer.state[layer.hetero_alpha]
    for name in ("exp_avg", "exp_avg_sq"):
        assert (moments[name][redrawn] == 0).all()
        assert (moments[name][~redrawn] != 0).any()
    assert moments["step"] == 3
    torch.testing.assert_close(layer.tracker.value, 0.75 * average + 0.25 * average.mean())
    assert torch.equal(first.hetero_alpha, untouched)


@pytest.mark.parametrize("updates_before", [5, 200])
def test_what_is_redrawn_begins_with_no_more_than_a_learning_rate(small, bare_policy, updates_before: int) -> None:
    """Adam's count of steps is the parameter's; with moments of 0, old entries would begin with three of them."""
    lr = 1e-3
    config = small(K24QMixConfig()).training(lr=lr).k24(total_env_steps=1000, reset_interval=200, reset_fraction=0.5)
    policy, episodes = bare_policy(config.k24(temperature_init=0.5, temperature_final=0.5))
    for _ in range(updates_before):
        policy.learn_on_batch(episodes)
    layers = policy.masked_layers()[1:]
    alphas = [layer.hetero_alpha.detach().clone() for layer in layers]
    reset_once(policy, episodes)
    redrawn = [layer.hetero_alpha != alpha for layer, alpha in zip(layers, alphas, strict=True)]
    alphas = [layer.hetero_alpha.detach().clone() for layer in layers]
    policy.global_timestep = 201
    policy.learn_on_batch(episodes)
    moved = zip(layers, alphas, redrawn, strict=True)
    steps = torch.cat([(layer.hetero_alpha.detach() - alpha).abs()[new] / lr for layer, alpha, new in moved])
    assert steps.max() <= 1.001
    assert (steps > 0.1).float().mean() > 0.5  # and with no less, where there is a gradient
