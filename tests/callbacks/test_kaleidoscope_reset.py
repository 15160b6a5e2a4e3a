"""Kaleidoscope's reset: at its step, of what every owner has pruned, and the same after a checkpoint."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from ray import cloudpickle

from k24_rllib import KaleidoscopeQMixConfig
from k24_rllib.callbacks import KaleidoscopeResetCallback
from k24_rllib.qmix import QMixTorchPolicy

DEAD_SHARE = 0.4


def config(small, **kaleidoscope) -> KaleidoscopeQMixConfig:
    settings = {"total_env_steps": 1000, "reset_interval": 200, "reset_fraction": 0.5, **kaleidoscope}
    return small(KaleidoscopeQMixConfig()).training(hidden_dim=32).kaleidoscope(**settings)


@torch.no_grad()
def prune(policy: QMixTorchPolicy) -> list[torch.Tensor]:
    """Lets all owners prune the same random connections, and single owners some more; returns the former, by layer."""
    dead = []
    for layer in policy.masked_layers():
        dead.append(torch.rand_like(layer.weight) < DEAD_SHARE)
        layer.weight.copy_(torch.where(layer.weight < 0, -0.1, 0.1) * (1.0 + torch.rand_like(layer.weight)))
        layer.thresholds.fill_(-20.0)
        layer.thresholds[0] = torch.where(torch.rand_like(layer.weight) < 0.3, 3.0, layer.thresholds[0])
        layer.thresholds.copy_(torch.where(dead[-1], 3.0, layer.thresholds))
    return dead


def call(policy: QMixTorchPolicy, step: int) -> dict:
    policy.global_timestep = step
    KaleidoscopeResetCallback().on_learn_on_batch(policy=policy, train_batch=None, result={})
    return policy.method_metrics()


def test_it_comes_at_every_multiple_of_its_interval_but_not_near_the_end(small, bare_policy) -> None:
    policy, _ = bare_policy(config(small))
    steps = [0, 40, 199, 210, 240, 399, 400, 440, 610, 799, 801, 999, 1000, 1200]
    seen = {step: call(policy, step)["resets_total"] for step in steps}
    came = [step for before, step in pairwise(steps) if seen[step] > seen[before]]
    assert came == [210, 400, 610]
    assert policy.record.last_reset_step == 610
    policy, _ = bare_policy(config(small))
    assert call(policy, 800)["resets_total"] == 1  # as many steps remain as lie between two resets


@pytest.mark.parametrize("interval", [None, 0])
def test_it_can_be_switched_off(small, bare_policy, interval: int | None) -> None:
    policy, _ = bare_policy(config(small, reset_interval=interval))
    assert [call(policy, step)["resets_total"] for step in (0, 200, 500)] == [0, 0, 0]


def test_only_connections_that_every_owner_pruned_are_touched_and_their_moments_cleared(small, bare_policy) -> None:
    policy, episodes = bare_policy(config(small))
    for _ in range(2):
        policy.learn_on_batch(episodes)
    dead = prune(policy)
    (optimizer,) = policy._optimizers
    for moments in optimizer.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name].fill_(1.0)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    result = call(policy, 200)
    names = {id(parameter): name for name, parameter in policy.model.named_parameters()}
    changed = {name for name, value in policy.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"agent.{layer}.{what}" for layer in ("fc2", "fc3", "fc4") for what in ("weight", "thresholds")}
    revived_total = 0
    for layer, gone in zip(policy.masked_layers()[1:], dead[1:], strict=True):
        revived = layer.weight != before[names[id(layer.weight)]]
        assert not (revived & ~gone).any()
        assert revived.sum() / gone.sum() == pytest.approx(0.5, abs=0.12)
        redrawn = layer.thresholds != before[names[id(layer.thresholds)]]
        assert torch.equal(redrawn, revived.expand_as(redrawn))
        for parameter, entries in ((layer.weight, revived), (layer.thresholds, redrawn)):
            for name in ("exp_avg", "exp_avg_sq"):
                assert torch.equal(optimizer.state[parameter][name] == 0, entries)
            assert optimizer.state[parameter]["step"] == 2
        revived_total += int(revived.sum())
    assert (result["resets_total"], result["revived_total"]) == (1, revived_total)
    untouched = policy.masked_layers()[0].weight
    assert (optimizer.state[untouched]["exp_avg"] == 1).all()


def test_a_run_that_goes_on_from_a_checkpoint_equals_one_never_stopped(small, bare_policy) -> None:
    """Across two resets, one before and one after the checkpoint; to the last bit, networks, moments and metrics."""

    def learn(policy, episodes, steps) -> list[dict]:
        results = []
        for step in steps:
            policy.global_timestep = step
            metrics = {**policy.learn_on_batch(episodes), **policy.method_metrics()}
            policy.update_target(0.1)
            results.append({name: float(value) for name, value in metrics.items()})
        return results

    def started():
        policy, episodes = bare_policy(config(small))
        prune(policy)
        return policy, episodes

    first, second = [150, 210, 250], [390, 410, 460, 500]
    whole, episodes = started()
    expected = learn(whole, episodes, first + second)
    stopped, episodes = started()
    begun = learn(stopped, episodes, first)
    saved = cloudpickle.dumps(stopped.get_state())
    resumed, _ = bare_policy(config(small), seed=7)
    resumed.set_state(cloudpickle.loads(saved))
    assert begun + learn(resumed, episodes, second) == expected
    assert [result["resets_total"] for result in expected] == [0, 1, 1, 1, 2, 2, 2]
    assert expected[-1]["revived_total"] > expected[1]["revived_total"] > 0
    for ours, theirs in ((resumed.model, whole.model), (resumed.target_model, whole.target_model)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name


def test_what_is_revived_begins_with_no_more_than_a_learning_rate(small, bare_policy) -> None:
    lr = 1e-3
    policy, episodes = bare_policy(config(small).training(lr=lr))
    prune(policy)
    for _ in range(200):
        policy.learn_on_batch(episodes)
    before = [layer.weight.detach().clone() for layer in policy.masked_layers()]
    call(policy, 200)
    revived = [layer.weight != weight for layer, weight in zip(policy.masked_layers(), before, strict=True)]
    before = [layer.weight.detach().clone() for layer in policy.masked_layers()]
    policy.global_timestep = 201
    policy.learn_on_batch(episodes)
    moved = zip(policy.masked_layers(), before, revived, strict=True)
    steps = torch.cat([(layer.weight.detach() - weight).abs()[new] / lr for layer, weight, new in moved])
    assert len(steps) > 100
    assert 0.3 < steps.max() <= 1.001
