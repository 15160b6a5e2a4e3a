"""Callbacks of the user's: beside the method's, or in the place of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.rllib.algorithms.callbacks import DefaultCallbacks

from k24_rllib import K24QMixConfig
from k24_rllib.callbacks import FinetuneCallback, RewindCallback, TemperatureCallback

METHOD = K24QMixConfig.method_callbacks


class Watcher(DefaultCallbacks):
    def on_learn_on_batch(self, *, policy, train_batch, result, **kwargs) -> None:
        policy.record.custom["updates"] = policy.record.custom.get("updates", 0) + 1


class FreezeAtOnce(FinetuneCallback):
    def on_learn_on_batch(self, *, policy, train_batch, result, **kwargs) -> None:
        policy.freeze_masks()
        policy.record.finetuning = True


class Both(FinetuneCallback, RewindCallback):
    pass


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (Watcher, (Watcher, *METHOD)),
        (FreezeAtOnce, (DefaultCallbacks, *METHOD[:3], FreezeAtOnce, METHOD[4])),
        ([Watcher, FreezeAtOnce], (Watcher, *METHOD[:3], FreezeAtOnce, METHOD[4])),
        (Both, (DefaultCallbacks, *METHOD[:3], Both)),
        ([TemperatureCallback, Watcher], (Watcher, *METHOD)),
    ],
)
def test_a_subclass_takes_the_place_of_what_it_replaces(small, user, expected: tuple) -> None:
    config = small(K24QMixConfig()).callbacks(user)
    config.validate()
    parts = config.callbacks_class.parts
    assert parts == tuple(part for part in expected if part is not DefaultCallbacks)
    config.validate()
    assert config.callbacks_class.parts == parts


def test_replacing_one_leaves_the_others_at_work(small, bare_policy) -> None:
    config = small(K24QMixConfig()).callbacks([Watcher, FreezeAtOnce])
    policy, episodes = bare_policy(config.k24(total_env_steps=1000))
    policy.on_global_var_update({"timestep": 100})
    temperature, rate = policy.masked_layers()[0].temperature.item(), policy.cur_lr
    stats = policy.learn_on_batch(episodes)
    assert policy.masks_frozen()
    assert stats["temperature"] < temperature
    assert stats["lr"] == rate  # the replacement does not lower it
    assert policy.get_state()["record"]["custom"] == {"updates": 1}


def test_a_file_can_name_a_callback(small, bare_policy, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_callbacks.py").write_text(
        "from k24_rllib.callbacks import TemperatureCallback\n"
        "class Warm(TemperatureCallback):\n"
        "    def temperature(self, config, progress):\n"
        "        return 7.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    policy, episodes = bare_policy(small(K24QMixConfig()).apply_dict({"callbacks": "my_callbacks.Warm"}))
    assert policy.learn_on_batch(episodes)["temperature"] == 7.0
