"""Updates without a finite loss and gradient: skipped, counted, and without a trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.qmix import EpisodeBatch, QMixTorchPolicy
from k24_rllib.qmix.guard import UpdateGuard
from k24_rllib.sparsity import DenseLinear

NAN, INF = float("nan"), float("inf")
CONFIGS = {
    "dense": QMixConfig,
    "k24": lambda: K24QMixConfig().k24(total_env_steps=1000),
    "k24_gumbel": lambda: K24QMixConfig().k24(total_env_steps=1000, sampling="gumbel", ema_per_owner=True),
    "kaleidoscope": lambda: KaleidoscopeQMixConfig().kaleidoscope(total_env_steps=1000),
    "prioritized": lambda: QMixConfig().training(replay="prioritized"),
}


def with_reward(episodes: EpisodeBatch, value: float) -> EpisodeBatch:
    """Returns the episodes with one reward that is `value`."""
    rewards = episodes.team_reward.copy()
    rewards[2, 3] = value
    return EpisodeBatch(**{**episodes.arrays(), "team_reward": rewards})


def trace(policy: QMixTorchPolicy) -> dict[str, Tensor]:
    """Returns everything that an update moves, as tensors by name."""
    found = {f"online {name}": value.clone() for name, value in policy.model.state_dict().items()}
    found |= {f"target {name}": value.clone() for name, value in policy.target_model.state_dict().items()}
    (optimizer,) = policy._optimizers
    for index, parameter in enumerate(policy._parameters):
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{key} {index}"] = value.clone()
    if diversity := getattr(policy, "diversity", None):
        found |= {f"diversity {name}": value.clone() for name, value in diversity.state_dict().items()}
    if change := getattr(policy, "policy_change", None):
        found |= {f"policy {i}": each.clone() for i, each in enumerate(change.policies())}
    return found


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("updates_before", [0, 3])
def test_a_skipped_update_leaves_no_trace(small, bare_policy, name: str, value: float, updates_before: int) -> None:
    policy, episodes = bare_policy(small(CONFIGS[name]()))
    for _ in range(updates_before):
        policy.learn_on_batch(episodes)
    before = trace(policy)
    metrics = policy.learn_on_batch(with_reward(episodes, value))
    assert policy.update_made is False
    assert not np.isfinite(float(metrics["loss"]))
    assert_same(trace(policy), before)
    assert policy.guard.get_state() == {"skipped": 1, "in_a_row": 1}
    metrics = policy.learn_on_batch(episodes)
    assert policy.update_made
    assert np.isfinite([float(metrics["loss"]), float(metrics["grad_norm"])]).all()
    assert policy.guard.get_state() == {"skipped": 1, "in_a_row": 0}
    assert all(bool(value.isfinite().all()) for value in trace(policy).values())
    assert any(not torch.equal(value, before[key]) for key, value in trace(policy).items() if key in before)


@pytest.mark.parametrize("what", ["alpha", "weights", "bias", "ema", "mixer"])
def test_whatever_is_wrong_in_the_network_stops_updates(small, bare_policy, what: str) -> None:
    """As no update brings that about, it was put there: the other weights are not spoilt by it."""
    policy, episodes = bare_policy(small(K24QMixConfig().k24(total_env_steps=1000, div_coef=0.0)))
    layer = policy.masked_layers()[1]
    spoilt = {
        "alpha": layer.hetero_alpha.data,
        "weights": layer.weight.data,
        "bias": layer.bias.data,
        "ema": layer.tracker.value,
        "mixer": next(policy.model.mixer.parameters()).data,
    }[what]
    spoilt.view(-1)[0] = NAN
    before = trace(policy)
    policy.learn_on_batch(episodes)
    assert policy.update_made is False
    after = trace(policy)
    assert all(torch.equal(after[name].isnan(), value.isnan()) for name, value in before.items())


def test_a_loss_too_large_for_its_type_is_skipped_though_its_gradient_is_not(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(QMixConfig()).training(standardise_rewards=False, mixer="vdn"))
    before = trace(policy)
    metrics = policy.learn_on_batch(with_reward(episodes, 1e22))
    assert np.isinf(float(metrics["loss"]))
    assert policy.update_made is False
    assert_same(trace(policy), before)


def test_a_loss_that_runs_off_is_reported_and_not_stopped(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(QMixConfig()).training(standardise_rewards=False, mixer="vdn"))
    for _ in range(3):
        metrics = policy.learn_on_batch(with_reward(episodes, 1e16))
        assert 1e29 < float(metrics["loss"]) < 1e32
        assert policy.update_made
    assert policy.guard.skipped == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_where_the_device_decides_it_decides_the_same(small, bare_policy, name: str) -> None:
    """The way of a GPU, here on the CPU: good and bad batches in turn end in the same bits."""
    found, counts = [], []
    for deferred in (False, True):
        policy, episodes = bare_policy(small(CONFIGS[name]()))
        policy.guard._deferred = deferred
        torch.manual_seed(1)
        for value in (NAN, 1.0, 2.0, INF, NAN, 3.0, NAN):
            policy.learn_on_batch(with_reward(episodes, value))
            assert policy.update_made is (None if deferred else bool(np.isfinite(value)))
        if change := getattr(policy, "policy_change", None):
            change._last.clear()  # where nobody on this side knows of the flag, it lasts two updates
        found.append(trace(policy))
        counts.append(policy.guard.get_state())
    assert_same(*found)
    assert counts == [{"skipped": 4, "in_a_row": 1}] * 2


def test_the_device_is_not_asked_before_the_counts_are_read(small, bare_policy, monkeypatch) -> None:
    policy, _ = bare_policy(small(QMixConfig()))
    policy.guard._deferred = True
    asked = []
    for name in ("item", "__float__", "__bool__"):
        monkeypatch.setattr(Tensor, name, lambda tensor, name=name: asked.append(name) or 0.0)
    loss, norm = torch.ones(()), torch.ones(())
    policy.guard.begin()
    (optimizer,) = policy._optimizers
    policy.guard.step(optimizer, loss, norm)
    assert not asked


def test_an_optimizer_that_can_leave_out_no_step_is_waited_for(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(QMixConfig()))
    policy.guard._deferred = True
    policy._optimizers = [torch.optim.RMSprop(policy.model.parameters(), lr=1e-3)]
    before = trace(policy)
    policy.learn_on_batch(with_reward(episodes, NAN))
    assert policy.update_made is False
    assert_same(trace(policy), before)
    policy.learn_on_batch(episodes)
    assert policy.update_made is True


class Counting(DenseLinear):
    """A user's layer that writes to its buffer in place."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.register_buffer("seen", torch.zeros(2))

    def observe(self, x: Tensor, track: Tensor, made) -> None:
        self.seen += x.mean()


@pytest.mark.parametrize("deferred", [False, True])
def test_buffers_that_are_written_to_in_place_are_put_back_too(deferred: bool) -> None:
    layer, guard = Counting(3, 2, 1), UpdateGuard(deferred)
    guard.watch(layer)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    for value in (NAN, 1.0, NAN, 2.0, 3.0):
        before = {name: its.clone() for name, its in layer.state_dict().items()}
        guard.begin()
        x = torch.full((1, 4, 3), value)
        loss = layer(x, track=torch.ones(1, 4)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        guard.step(optimizer, loss, layer.weight.grad.norm())
        same = [torch.equal(its, before[name]) for name, its in layer.state_dict().items()]
        assert same == [value != value] * 3
    assert guard.get_state() == {"skipped": 2, "in_a_row": 0}
    assert torch.equal(layer.seen, torch.full((2,), 6.0))


def test_counts_are_part_of_a_policys_state_which_older_ones_lack(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(QMixConfig()))
    for value in (NAN, 0.0, NAN, NAN):
        policy.learn_on_batch(with_reward(episodes, value))
    state = policy.get_state()
    other, _ = bare_policy(small(QMixConfig()))
    other.set_state(state)
    assert other.guard.get_state() == {"skipped": 3, "in_a_row": 2}
    del state["guard"]
    other.set_state(state)
    assert other.guard.get_state() == {"skipped": 0, "in_a_row": 0}
