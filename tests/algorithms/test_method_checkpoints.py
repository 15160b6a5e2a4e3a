"""A run that was saved and restored in any phase goes on as the one that was never stopped, to the last bit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import SemiStructuredLinear

STEPS = range(0, 1000, 50)
PHASES = {0: "new", 100: "annealing", 250: "between resets", 350: "snapshot taken", 800: "freezing", 850: "frozen"}
"""What a run is at when it is saved, before the update at each of these steps."""


def learner_config(small, first_draft) -> K24QMixConfig:
    """All events in 1,000 steps, and both kinds of resets."""
    config = first_draft(small(K24QMixConfig())).training(lr=[[0, 1e-2], [1000, 1e-3]], target_update_tau=0.1)
    return config.k24(
        total_env_steps=1000,
        reset_interval=200,
        rewind_to=0.3,
        kl_reset=True,
        kl_threshold=0.005,
        kl_min_interval=50,
    )


def advance(policy, episodes, step: int) -> dict[str, float]:
    """Makes the update and the log at `step`, whose randomness depends on the step alone."""
    policy.on_global_var_update({"timestep": step})
    torch.manual_seed(step)
    stats = policy.learn_on_batch(episodes)
    policy.update_target(0.1)
    return {name: float(value) for name, value in {**stats, **policy.method_metrics()}.items()}


def state_of(policy) -> dict[str, Any]:
    """Returns the state but for what says where it was made."""
    return {name: value for name, value in policy.get_state().items() if name != "policy_spec"}


def assert_same(ours: Any, theirs: Any, where: str = "state") -> None:
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for name in ours:
            assert_same(ours[name], theirs[name], f"{where}.{name}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}.{i}")
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=where)


def test_restored_in_any_phase_it_goes_on_the_same(small, bare_policy, first_draft) -> None:
    whole, episodes = bare_policy(learner_config(small, first_draft))
    saved, logs = {}, {}
    for step in STEPS:
        if step in PHASES:
            saved[step] = pickle.dumps(state_of(whole))
        logs[step] = advance(whole, episodes, step)
    assert pickle.loads(saved[350])["record"]["snapshot"] is not None
    assert pickle.loads(saved[850])["record"]["rewound"]
    assert logs[950]["resets_total"] > 4  # periodic and adaptive ones
    assert len({log["mask_flip_rate"] for log in logs.values()}) > 3
    for start, phase in PHASES.items():
        other, _ = bare_policy(learner_config(small, first_draft), seed=1)
        other.set_state(pickle.loads(saved[start]))
        for step in STEPS[STEPS.index(start) :]:
            log = advance(other, episodes, step)
            assert log == pytest.approx(logs[step], rel=0, abs=0, nan_ok=True), f"{phase}, step {step}"
        assert_same(state_of(whole), state_of(other), phase)


def test_a_frozen_run_loads_into_one_of_any_phase(small, bare_policy, first_draft) -> None:
    """As population-based training does: states go back and forth between runs in different phases."""
    early, episodes = bare_policy(learner_config(small, first_draft))
    late, _ = bare_policy(learner_config(small, first_draft), seed=1)
    advance(early, episodes, 100)
    before = pickle.dumps(state_of(early))
    for step in (400, 800, 850):
        advance(late, episodes, step)
    early.set_state(pickle.loads(pickle.dumps(state_of(late))))
    assert_same(state_of(late), state_of(early))
    late.set_state(pickle.loads(before))
    assert not late.masks_frozen()
    assert not any(layer.frozen for layer in late.target_model.agent.layers_of(SemiStructuredLinear))
    assert advance(late, episodes, 150)["div_loss"] > 0
    assert advance(early, episodes, 900)["div_loss"] == 0


@pytest.fixture
def finetuning(small, bare_policy, first_draft) -> dict[str, Any]:
    """The state of a run of 1,000 steps at step 850, its settings with it."""
    policy, episodes = bare_policy(first_draft(small(K24QMixConfig())).k24(total_env_steps=1000, reset_interval=None))
    for step in (100, 800, 850):
        advance(policy, episodes, step)
    state: dict[str, Any] = policy.get_state()
    return state


def test_a_changed_run_keeps_its_own_settings(small, bare_policy, first_draft, finetuning: dict[str, Any]) -> None:
    changed = first_draft(small(K24QMixConfig())).training(gamma=0.5).k24(total_env_steps=1050, finetune_lr_factor=0.5)
    policy, episodes = bare_policy(changed, seed=1)
    policy.set_state(finetuning)
    assert (policy.config["gamma"], policy.config["finetune_lr_factor"]) == (0.5, 0.5)
    assert policy.progress() == pytest.approx(850 / 1050)
    assert advance(policy, episodes, 900)["lr"] == pytest.approx(0.5 * policy.cur_lr)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_env_steps": 2000}, "finetune_at: got 0.8 with a checkpoint .* progress 0.42"),
        ({"total_env_steps": 1000, "finetune_at": None}, "finetune_at: got None"),
        ({"total_env_steps": 1000, "rewind_to": 0.1}, "rewind_to: got 0.1"),
    ],
)
def test_frozen_masks_do_not_learn_again(
    small, bare_policy, first_draft, finetuning, settings: dict, message: str
) -> None:
    policy, _ = bare_policy(first_draft(small(K24QMixConfig())).k24(reset_interval=None, **settings))
    with pytest.raises(ConfigError, match=message):
        policy.set_state(finetuning)
