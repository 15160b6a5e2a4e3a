"""The temperature schedules."""

from __future__ import annotations

import math

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import SCHEDULES, temperature_at


@pytest.mark.parametrize(
    ("progress", "expected"), [(-0.1, 5.0), (0.0, 5.0), (0.2, 3.8), (0.4, 2.6), (0.8, 0.2), (0.9, 0.2), (1.3, 0.2)]
)
def test_linear(progress, expected):
    assert temperature_at(progress) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 5.0), (0.2, 3.0), (0.4, 1.0), (0.6, 0.6), (0.8, 0.2), (1.0, 0.2)]
)
def test_two_phase(progress, expected):
    assert temperature_at(progress, schedule="two_phase") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("progress", "expected"), [(-1.0, 5.0), (0.0, 5.0), (0.2, 0.2 + 4.8 * 0.5 * (1 + math.sqrt(0.5))), (0.4, 2.6)]
)
def test_cosine(progress, expected):
    assert temperature_at(progress, schedule="cosine") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_falls_from_start_to_end(schedule):
    values = [temperature_at(i / 100, schedule=schedule) for i in range(101)]
    assert values == sorted(values, reverse=True)
    assert (values[0], values[80], values[100]) == (5.0, 0.2, 0.2)


def test_the_end_is_exact():
    assert temperature_at(0.8) == 0.2
    assert temperature_at(1.0, schedule="two_phase") == 0.2


def test_own_values():
    assert temperature_at(0.25, init=3.0, final=1.0, end=0.5) == pytest.approx(2.0)
    assert temperature_at(1, init=1, final=1, end=1) == 1.0


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("temperature_init", {"init": 0.0}),
        ("temperature_final", {"final": -1.0}),
        ("temperature_final", {"final": 0}),
        ("temperature_final", {"final": 1e-40}),  # 0 in float32, or infinity by which it is divided
        ("temperature_init", {"init": 1e300}),
        ("temperature_end", {"end": 0.0}),
        ("temperature_end", {"end": 1.5}),
        ("temperature_schedule", {"schedule": "twophase"}),
        ("temperature_init", {"init": 0.5, "schedule": "two_phase"}),
        ("temperature_final", {"final": 2.0, "schedule": "two_phase"}),
        ("progress", {"progress": math.nan}),
    ],
)
def test_impossible_values_are_named(key, options):
    with pytest.raises(ConfigError, match=key):
        temperature_at(**{"progress": 0.1, **options})
