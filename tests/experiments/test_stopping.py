"""Stop keys, their old names, and when they are reached."""

from __future__ import annotations

import math

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.stopping import ENV_STEPS, check_stop, is_reached


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"timesteps_total": 5}, {ENV_STEPS: 5}),
        ({"num_env_steps_sampled_lifetime": 5}, {ENV_STEPS: 5}),
        ({"episode_reward_mean": -40.5}, {"env_runners/episode_return_mean": -40.5}),
        ({"env_runners": {"episode_return_mean": -40}}, {"env_runners/episode_return_mean": -40}),
        ({"evaluation/env_runners/episode_reward_mean": 1}, {"evaluation/env_runners/episode_return_mean": 1}),
        (None, {}),
    ],
)
def test_names_old_and_new(given: dict[str, object] | None, meant: dict[str, float]) -> None:
    assert check_stop(given) == meant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timestep_total": 5}, r"unknown stop key 'timestep_total'; did you mean 'timesteps_total'\?"),
        ({"timesteps_total": "5k"}, "stop: timesteps_total: got '5k', expected a number above 0"),
        ({"training_iteration": 0}, "training_iteration: got 0, expected a number above 0"),
        ([1], r"stop: got \[1\], expected keys and values"),
    ],
)
def test_what_cannot_be_meant(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_stop(given)


def test_reached_by_whichever_comes_first_and_never_by_nothing() -> None:
    stop = {ENV_STEPS: 100.0, "evaluation/env_runners/episode_return_mean": -50.0}
    assert not is_reached(stop, {ENV_STEPS: 99})
    assert is_reached(stop, {ENV_STEPS: 100})
    assert is_reached(stop, {ENV_STEPS: 1, "evaluation": {"env_runners": {"episode_return_mean": -49.0}}})
    assert not is_reached(stop, {ENV_STEPS: 1, "evaluation": {"env_runners": {"episode_return_mean": math.nan}}})
    assert not is_reached({}, {ENV_STEPS: 1e9})
