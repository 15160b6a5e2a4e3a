"""Settings of the method that contradict each other: one line that names both values, before Ray starts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

Spec = dict[str, Any]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"finetune_at": 0.4}, ["finetune_at: got 0.4", "temperature_end 0.5", "at least as much"]),
        ({"temperature_end": 0.9, "finetune_at": 0.8}, ["finetune_at: got 0.8", "temperature_end 0.9"]),
        ({"reset_interval": 401}, ["reset_interval: got 401", "total_env_steps 400"]),
        ({"reset_interval": 10_000}, ["reset_interval: got 10000", "total_env_steps 400"]),
        (
            {"reset_interval": 161, "finetune_at": 0.8},
            ["reset_interval: got 161", "finetune_at 0.8 of total_env_steps 400", "at most 160"],
        ),
        ({"kl_reset": True, "kl_min_interval": 201}, ["kl_min_interval: got 201", "total_env_steps 400"]),
        ({"buffer_episodes": 8, "train_batch_size": 8, "learning_starts_episodes": 9}, ["got 9", "buffer_episodes 8"]),
        ({"seed": "a"}, ["seed: got 'a'", "a whole number"]),
        ({"seed": -1}, ["seed: got -1", "at least 0"]),
        ({"model": {"custom_model": "nope"}}, ["custom_model: got 'nope'", "'k24_rnn'"]),
        ({"evaluation_config": {"explor": False}}, ["evaluation_config: ", "'explor'", "did you mean 'explore'?"]),
        ({"kl_reset": True}, ["kl_min_interval: got 1000", "total_env_steps 400"]),
        ({"rewind_to": 0.9, "finetune_at": 0.8}, ["rewind_to: got 0.9", "finetune_at 0.8"]),
        ({"rewind_to": 0.8, "finetune_at": 0.8}, ["rewind_to: got 0.8", "finetune_at 0.8", "expected less"]),
        ({"rewind_to": 0.1}, ["rewind_to: got 0.1", "finetune_at None"]),
        ({"estimator": "rao_blackwell"}, ["estimator: got 'rao_blackwell'", "sampling 'tempered'"]),
        ({"masks": "fixed_random", "revive": "random"}, ["revive: got 'random'", "masks 'fixed_random'"]),
        ({"masks": "fixed_random", "reset_interval": 100}, ["reset_interval: got 100", "masks 'fixed_random'"]),
        ({"masks": "fixed_random", "kl_reset": True, "kl_min_interval": 9}, ["kl_reset: got True", "'fixed_random'"]),
        ({"shared_mask": True, "ema_per_owner": True}, ["ema_per_owner: got true", "shared_mask true"]),
        ({"layer": "dense"}, ["layer: got 'dense'"]),
        ({"pattern": "3:4"}, ["pattern: got '3:4'", "'2:4'", "'4:8'"]),
        ({"masks": "fixed"}, ["masks: got 'fixed'", "did you mean 'fixed_random'?"]),
        ({"revive": "deed"}, ["revive: got 'deed'", "did you mean 'dead'?"]),
        ({"diversity": "cosin"}, ["diversity: got 'cosin'", "did you mean 'cosine'?"]),
        ({"estimator": "reimax"}, ["estimator: got 'reimax'", "did you mean 'reinmax'?"]),
        ({"reset_interval": -1}, ["reset_interval: got -1", "at least 0"]),
        ({"reset_interval": "often"}, ["reset_interval: got 'often'", "a whole number"]),
        ({"reset_fraction": 1.5}, ["reset_fraction: got 1.5", "at most 1.0"]),
        ({"ema_reset_step": -0.1}, ["ema_reset_step: got -0.1"]),
        ({"kl_reset": 1}, ["kl_reset: got 1", "true or false"]),
        ({"kl_threshold": -1.0}, ["kl_threshold: got -1.0"]),
        ({"finetune_at": 1.5}, ["finetune_at: got 1.5", "at most 1.0"]),
        ({"finetune_lr_factor": 0.0}, ["finetune_lr_factor: got 0.0", "above 0.0"]),
        ({"rewind_to": -0.1}, ["rewind_to: got -0.1", "at least 0.0"]),
        ({"rao_blackwell_samples": 0}, ["rao_blackwell_samples: got 0"]),
        ({"finetune_from": 0.8}, ["unknown config key 'finetune_from' of K24QMix", "did you mean 'finetune_at'?"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_method_settings(
    call: Callable[..., subprocess.CompletedProcess[str]],
    write: Callable[..., Path],
    tiny: Spec,
    settings: Spec,
    parts: list[str],
) -> None:
    tiny["config"] |= settings
    path = write(tiny)
    outcome = call("train", "-f", path)
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith(f"rllib: error: {path}: ")
    assert outcome.stderr.count("\n") == 1
    for part in parts:
        assert part in outcome.stderr, outcome.stderr
    assert not ray.is_initialized()
