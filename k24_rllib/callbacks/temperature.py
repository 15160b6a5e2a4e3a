"""The temperature of the pattern distribution, falling as training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.callbacks import DefaultCallbacks

from k24_rllib.callbacks.learner import PatternLearner
from k24_rllib.sparsity import temperature_at


class TemperatureCallback(DefaultCallbacks):
    """Sets the temperature of every 2:4 layer before each update (method: training dynamics).

    The layers keep it in their state, so rollout workers and checkpoints get it with the weights.
    """

    def on_learn_on_batch(
        self, *, policy: PatternLearner, train_batch: Any, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Sets the temperature for the update that is about to be made, and reports it."""
        temperature = self.temperature(policy.config, policy.progress())
        for layer in policy.masked_layers():
            layer.set_temperature(temperature)
        result["temperature"] = temperature

    def temperature(self, config: Mapping[str, Any], progress: float) -> float:
        """Returns the temperature at `progress` (0 to 1); override it for a schedule of your own."""
        return temperature_at(
            progress,
            init=config["temperature_init"],
            final=config["temperature_final"],
            end=config["temperature_end"],
            schedule=config["temperature_schedule"],
        )
