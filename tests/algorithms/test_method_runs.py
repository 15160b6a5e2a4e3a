"""The method in RLlib: metrics in the results, in TensorBoard and explained, and masks in every process."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from tensorboardX.proto.event_pb2 import Event

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.algorithms import MaskedQMixTorchPolicy

NAMES = {
    *("loss", "loss_td", "div_loss", "div_coef", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean"),
    *("temperature", "progress", "finetune_mode", "overall_sparsity", "pattern_entropy", "pattern_mean_similarity"),
    *("pattern_max_similarity", "pattern_min_similarity", "similarity_floor", "mask_flip_rate"),
    *("sample_argmax_agreement", "resets_total", "kl_div"),
    *(f"sparsity_layer_{i}" for i in range(4)),
    *(f"pattern_{k}_prob" for k in range(6)),
}
WHERE = "info/learner/default_policy/"
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def learner(result: dict) -> dict:
    return result["info"]["learner"]["default_policy"]


def events(path: Path) -> Iterator[Event]:
    """Reads a TensorBoard file: records of a length, its checksum, an event and its checksum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


@pytest.mark.usefixtures("ray_session")
def test_every_metric_is_in_the_results_and_in_tensorboard(small, tmp_path: Path) -> None:
    config = small(K24QMixConfig()).k24(
        total_env_steps=200, reset_interval=40, finetune_at=0.6, temperature_end=0.6, temperature_init=0.2
    )
    run_config = tune.RunConfig(stop={"timesteps_total": 200}, storage_path=str(tmp_path), verbose=0)
    (result,) = tune.Tuner("K24QMix", param_space=config.to_dict(), run_config=run_config).fit()
    assert not result.error
    last = learner(result.metrics)
    assert last.keys() >= NAMES
    assert all(np.isfinite(last[name]) for name in NAMES)
    assert (last["progress"], last["finetune_mode"], last["resets_total"]) == (1.0, 1, 2)

    (file,) = Path(result.path).glob("events.out.tfevents.*")
    drawn: dict[str, list[float]] = {}
    for event in events(file):
        for value in event.summary.value:
            drawn.setdefault(value.tag.removeprefix("ray/tune/"), []).append(value.simple_value)
    assert {name.removeprefix(WHERE) for name in drawn if name.startswith(WHERE)} >= NAMES
    assert drawn[f"{WHERE}finetune_mode"] == [0, 0, 1, 1, 1]
    assert drawn[f"{WHERE}resets_total"] == [1, 2, 2, 2, 2]
    assert drawn[f"{WHERE}overall_sparsity"] == [0.5] * 5


def networks(algo: Any) -> dict[str, np.ndarray]:
    policy = algo.policy
    both = {"online": policy.model, "target": policy.target_model}
    return {f"{role} {name}": value.numpy() for role, net in both.items() for name, value in net.state_dict().items()}


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.usefixtures("ray_session")
def test_frozen_masks_reach_workers_and_survive_a_checkpoint(small, tmp_path: Path) -> None:
    config = small(K24QMixConfig()).env_runners(num_env_runners=1)
    config.k24(total_env_steps=200, finetune_at=0.5, temperature_end=0.4, rewind_to=0.2)
    algo = config.training(store_buffer_in_checkpoints=True).build_algo()

    def weights(worker) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in worker.get_weights()["default_policy"].items()}

    assert [learner(algo.train())["finetune_mode"] for _ in range(4)] == [0, 0, 1, 1]
    ours = weights(algo.env_runner)
    algo.training_step()  # is played with what was learned before it
    (theirs,) = algo.env_runner_group.foreach_env_runner(weights, local_env_runner=False)
    assert ours["fc1.frozen_mask"].dtype == bool
    assert_same(ours, theirs)

    restored = Algorithm.from_checkpoint(algo.save_to_path(tmp_path / "checkpoint"))
    assert_same(networks(algo), networks(restored))
    assert_same(weights(algo.env_runner), restored.env_runner_group.foreach_env_runner(weights)[1])
    batch = algo.local_replay_buffer.sample(4).episodes
    for both in (algo, restored):
        torch.manual_seed(3)
        both.policy.learn_on_batch(batch)
        both.policy.update_target(0.5)
    assert_same(networks(algo), networks(restored))
    result = learner(restored.train())
    assert (result["finetune_mode"], result["mask_flip_rate"]) == (1, 0)
    np.testing.assert_array_equal(weights(restored.env_runner)["fc2.frozen_mask"], ours["fc2.frozen_mask"])
    algo.stop()
    restored.stop()


@pytest.mark.parametrize("config_class", [QMixConfig, K24QMixConfig, KaleidoscopeQMixConfig])
def test_every_metric_is_explained(small, bare_policy, config_class: type[QMixConfig]) -> None:
    policy, episodes = bare_policy(small(config_class()))
    reported = set(policy.learn_on_batch(episodes))
    if isinstance(policy, MaskedQMixTorchPolicy):
        reported |= set(policy.method_metrics())
    first_cells = re.findall(r"^\| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    documented = {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    numbered = {f"sparsity_layer_{i}": "sparsity_layer_<i>" for i in range(4)}
    numbered |= {f"pattern_{k}_prob": "pattern_<k>_prob" for k in range(6)}
    assert documented >= {numbered.get(name, name) for name in reported}


def test_flips_are_counted_between_logs(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(K24QMixConfig()).training(lr=0.1).k24(total_env_steps=1000))
    assert policy.method_metrics()["mask_flip_rate"] == 0.0
    assert policy.method_metrics()["mask_flip_rate"] == 0.0
    before = [layer.most_likely_patterns().clone() for layer in policy.masked_layers()]
    policy.learn_on_batch(episodes)
    policy.learn_on_batch(episodes)
    groups = flips = 0
    for layer, old in zip(policy.masked_layers(), before, strict=True):
        new = layer.most_likely_patterns()[..., : layer.num_choice_groups]
        flips += int((new != old[..., : layer.num_choice_groups]).sum())
        groups += new.numel()
    assert flips > 0
    assert float(policy.method_metrics()["mask_flip_rate"]) == pytest.approx(flips / groups)
