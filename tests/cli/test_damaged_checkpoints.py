"""What is wrong with a checkpoint or a file of weights is one line before Ray starts; the one before it is used."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k24_rllib.experiments.checkpoints import policy_of
from k24_rllib.qmix.weights import save_weights
from tests.checkpoint_damage import OLD_CHECKPOINTS, flip_bit, lay_checkpoint
from tests.outcomes import assert_error

Spec = dict[str, Any]
Call = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A trial with two checkpoints, of which the newer is damaged."""
    for number in (1, 2):
        lay_checkpoint(tmp_path / "trial" / f"checkpoint_{number:06}")
    flip_bit(tmp_path / "trial" / "checkpoint_000002" / "policies/default_policy/policy_state.pkl", 9999)
    return tmp_path / "trial"


def test_a_damaged_checkpoint_without_one_before_it(call: Call, write: Write, tiny: Spec, trial: Path) -> None:
    (trial / "checkpoint_000002").rename(trial / "mine")
    parts = ["mine: policies/default_policy/policy_state.pkl is damaged (its digest is not the manifest's)"]
    assert_error(call("evaluate", trial / "mine"), *parts)
    assert_error(call("train", "-f", write(tiny), "--restore", trial / "mine"), *parts)


def test_the_one_before_is_used_and_said(call: Call, write: Write, tiny: Spec, trial: Path) -> None:
    """It goes on with checkpoint_000001 as far as to find that its network is another."""
    tiny["config"]["hidden_dim"] = 16
    outcome = call("train", "-f", write(tiny), "--restore", trial / "checkpoint_000002")
    assert outcome.stdout.count("\n") == 1
    assert "checkpoint_000002: policies/default_policy/policy_state.pkl is damaged" in outcome.stdout
    assert "checkpoint_000001, the one before, is used" in outcome.stdout
    assert outcome.returncode == 2
    assert f"{trial / 'checkpoint_000001'}: is of " in outcome.stderr


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"hidden_dim": 16}, ["there, [16, 14] here", "hidden_dim: 8 there, 16 here"]),
        ({"env_config": {"N": 3}}, ["of other shapes (agent.", "env_config.N: 2 there, 3 here"]),
        ({"mixer": "vdn"}, ["of another kind of network", "mixer: 'qmix' there, 'vdn' here"]),
    ],
)
def test_a_checkpoint_of_another_network(call: Call, write: Write, tiny: Spec, change: Spec, parts: list[str]) -> None:
    tiny["config"] |= change
    words = ["train", "-f", write(tiny), "--restore", OLD_CHECKPOINTS / "K24QMix"]
    outcome = call(*words)
    assert_error(outcome, "checkpoints_before_parts/K24QMix: is of ", *parts)
    assert len(outcome.stderr) < 400


def test_files_of_weights(call: Call, small: Callable, tmp_path: Path) -> None:
    policy = policy_of(OLD_CHECKPOINTS / "QMix")
    from k24_rllib import QMixConfig

    file = tmp_path / "weights.safetensors"
    save_weights(policy.model, small(QMixConfig()), file)
    flip_bit(file, 8 * file.stat().st_size - 1)
    assert_error(call("evaluate", file), f"{file}: is damaged (its digest is not its content's)")
    assert_error(call("evaluate", tmp_path / "none.safetensors"), "can't be read (No such file")
    file.write_bytes(b"12345678{}")
    assert_error(call("evaluate", file), "is no file of weights of k24_rllib, or a damaged one")
