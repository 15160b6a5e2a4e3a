"""The temperature callback in a real run, beside callbacks of the user's."""

import pytest
from ray.rllib.algorithms.callbacks import DefaultCallbacks

from k24_rllib import K24QMixConfig
from k24_rllib.callbacks import TemperatureCallback

pytestmark = pytest.mark.usefixtures("ray_session")


def learner(result: dict) -> dict:
    return result["info"]["learner"]["default_policy"]


def test_the_temperature_falls_as_configured(small) -> None:
    config = small(K24QMixConfig()).k24(
        total_env_steps=200, temperature_init=3.0, temperature_final=1.0, temperature_end=0.5
    )
    algo = config.build_algo()
    seen = []
    for _ in range(5):
        metrics = learner(algo.train())
        seen.append((metrics["progress"], metrics["temperature"]))
    for progress, temperature in seen:
        assert temperature == pytest.approx(max(3.0 - 2.0 * progress / 0.5, 1.0))
    assert seen[-1] == (1.0, 1.0)
    assert algo.policy.masked_layers()[0].temperature.item() == 1.0
    algo.stop()


class CountingCallback(DefaultCallbacks):
    def on_train_result(self, *, algorithm, result, **kwargs) -> None:
        result["counted"] = True


class ConstantTemperature(TemperatureCallback):
    def temperature(self, config, progress: float) -> float:
        return 1.5


def test_the_users_callbacks_run_beside_the_methods_and_can_replace_one(small) -> None:
    algo = small(K24QMixConfig().k24(total_env_steps=200)).callbacks(CountingCallback).build_algo()
    result = algo.train()
    assert result["counted"]
    assert learner(result)["temperature"] < 5.0
    algo.stop()
    algo = small(K24QMixConfig().k24(total_env_steps=200)).callbacks(ConstantTemperature).build_algo()
    assert learner(algo.train())["temperature"] == 1.5
    algo.stop()
