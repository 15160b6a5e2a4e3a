"""One short run with every event in it: what each changes, when, and that nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig
from k24_rllib.sparsity import SemiStructuredLinear

STEPS = range(0, 1000, 50)
LAYERS = ("fc1", "fc2", "fc3", "fc4")


def everything(policy) -> dict[str, object]:
    """Returns a copy of all that an event could change, by name."""
    state: dict[str, object] = {}
    for role, model in (("online", policy.model), ("target", policy.target_model)):
        state |= {f"{role}.{name.removeprefix('agent.')}": value.clone() for name, value in model.state_dict().items()}
    (optimizer,) = policy._optimizers
    for name, parameter in policy.model.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            state[f"adam.{name.removeprefix('agent.')}.{moment}"] = value.clone()
    state["adam.lr"] = optimizer.param_groups[0]["lr"]
    state |= {f"record.{name}": value for name, value in vars(policy.record).items()}
    return state


def changed(before: dict, after: dict) -> set[str]:
    """Returns the names of what is new, gone, or has another value."""

    def same(name: str) -> bool:
        old, new = before[name], after[name]
        return torch.equal(old, new) if isinstance(old, torch.Tensor) else old is new or old == new

    both = before.keys() & after.keys()
    return (before.keys() ^ after.keys()) | {name for name in both if not same(name)}


@pytest.fixture
def run(small, bare_policy, first_draft):
    """Runs the schedule; returns the policy, and for each step what callbacks and what the update changed."""

    def run_it(tau: float = 0.1, **settings):
        config = first_draft(small(K24QMixConfig())).training(lr=[[0, 1e-2], [1000, 1e-3]])
        config.k24(total_env_steps=1000, reset_interval=200, rewind_to=0.3, **settings)
        policy, episodes = bare_policy(config)
        events, updates = {}, {}
        for step in STEPS:
            policy.on_global_var_update({"timestep": step})
            torch.manual_seed(step)
            before = everything(policy)
            policy.callbacks.on_learn_on_batch(policy=policy, train_batch=episodes, result={})
            between = everything(policy)
            policy.learn_on_batch(episodes)
            policy.update_target(tau)
            events[step], updates[step] = changed(before, between), changed(between, everything(policy))
        return policy, events, updates

    return run_it


def test_each_event_changes_what_it_should_when_it_should(run) -> None:
    _, events, _ = run()
    temperature = {f"online.{layer}.temperature" for layer in LAYERS}
    reset = {"record.resets_total", "record.last_reset_step"}
    for layer in LAYERS[1:]:
        reset |= {f"online.{layer}.{name}" for name in ("hetero_alpha", "tracker.value", "selection_rate")}
        reset |= {f"adam.{layer}.hetero_alpha.{moment}" for moment in ("exp_avg", "exp_avg_sq")}
    finetuning = {"adam.lr", "record.finetuning", "record.snapshot", "record.rewound"}
    for layer in LAYERS:
        finetuning |= {f"{role}.{layer}.frozen_mask" for role in ("online", "target")}
        finetuning |= {f"target.{layer}.hetero_alpha", f"target.{layer}.temperature", f"online.{layer}.weight"}
        finetuning |= {f"adam.{layer}.weight.{moment}" for moment in ("exp_avg", "exp_avg_sq", "step")}
    for step, what in events.items():
        expected = set(temperature) if 0 < step <= 800 else set()
        if step in (200, 400, 600):
            expected |= reset
        if step == 300:
            expected.add("record.snapshot")
        if step == 800:
            expected |= finetuning
        if step > 800:
            expected.add("adam.lr")  # RLlib's schedule sets it, finetuning takes a tenth of it
        assert what == expected, step


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_after_the_freeze_only_weights_move_in_both_networks(run, tau: float) -> None:
    _, _, updates = run(tau)

    def moving(step: int) -> set[str]:
        return {name for name in updates[step] if name.startswith(("online", "target"))}

    masks = ("hetero_alpha", "tracker.value", "selection_rate", "temperature", "frozen_mask", "tracker.initialised")
    before, after = moving(750), moving(850)
    assert after == {name for name in before if not name.endswith(masks)}
    assert {f"{role}.{layer}.weight" for layer in LAYERS for role in ("online", "target")} < after
    assert {f"online.{layer}.hetero_alpha" for layer in LAYERS} < before
    assert all(moving(step) == after for step in STEPS if step >= 800)
    assert not any(name.startswith("adam") and "hetero_alpha" in name for name in updates[850])


def test_masks_and_alpha_are_the_same_to_the_last_bit_until_the_end(small, bare_policy) -> None:
    config = small(K24QMixConfig()).k24(total_env_steps=1000, finetune_at=0.8, reset_interval=0)
    policy, episodes = bare_policy(config)
    networks = (policy.model.agent, policy.target_model.agent)
    frozen_alpha: list[torch.Tensor] = []
    for step in STEPS:
        policy.on_global_var_update({"timestep": step})
        if step == 800:  # before it freezes
            likely = [layer.masks(explore=False).clone() for layer in policy.masked_layers()]
        policy.learn_on_batch(episodes)
        if step % 150 == 0:
            policy.update_target()
        if step < 800:
            continue
        frozen_alpha = frozen_alpha or [layer.hetero_alpha.clone() for layer in policy.masked_layers()]
        for agent in networks:
            for layer, mask, alpha in zip(agent.layers_of(SemiStructuredLinear), likely, frozen_alpha, strict=True):
                assert torch.equal(layer.masks(explore=True), mask)
                assert torch.equal(layer.masks(explore=False), mask)
                assert torch.equal(layer.hetero_alpha, alpha)


def test_rewinding_puts_back_the_weights_of_the_snapshots_moment(small, bare_policy, first_draft) -> None:
    config = first_draft(small(K24QMixConfig())).k24(total_env_steps=1000, rewind_to=0.3, reset_interval=0)
    policy, episodes = bare_policy(config)
    for step in STEPS:
        policy.on_global_var_update({"timestep": step})
        weights = [layer.weight.detach().clone() for layer in policy.masked_layers()]
        others = {name: p.clone() for name, p in policy.model.named_parameters() if not name.endswith(".weight")}
        if step == 300:
            early = weights
        if step == 800:
            assert not torch.equal(weights[0], early[0])
            policy.callbacks.on_learn_on_batch(policy=policy, train_batch=episodes, result={})
            for layer, weight in zip(policy.masked_layers(), early, strict=True):
                assert torch.equal(layer.weight, weight)
            for name, value in others.items():
                assert torch.equal(policy.model.get_parameter(name), value), name
        policy.learn_on_batch(episodes)
    assert not torch.equal(policy.masked_layers()[0].weight, early[0])


def test_the_rate_of_finetuning_follows_the_schedule(small, bare_policy, first_draft) -> None:
    config = first_draft(small(K24QMixConfig())).training(lr=[[0, 1e-2], [1000, 1e-3]])
    policy, episodes = bare_policy(config.k24(total_env_steps=1000, finetune_lr_factor=0.25))
    rates = {}
    for step in STEPS:
        policy.on_global_var_update({"timestep": step})
        rates[step] = policy.learn_on_batch(episodes)["lr"]
    expected = {step: (1e-2 - 9e-3 * step / 1000) * (0.25 if step >= 800 else 1.0) for step in STEPS}
    assert rates == pytest.approx(expected)
    np.testing.assert_allclose(policy.learn_on_batch(episodes)["lr"], rates[950])  # not lowered twice
