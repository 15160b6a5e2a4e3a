"""One clear line for one bad value."""

import math

import pytest

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_name, check_number, nearest
from k24_rllib.command_line import shortened


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {"above": 0}, "x: got 0, expected a number above 0"),
        (2, {"low": 0.0, "high": 1.0}, "x: got 2, expected a number at least 0.0 and at most 1.0"),
        (2.5, {"low": 1, "integer": True}, "x: got 2.5, expected a whole number at least 1"),
        ("two", {}, "x: got 'two', expected a number"),
        (True, {"integer": True}, "x: got True, expected a whole number"),
        (math.nan, {}, "x: got nan, expected a number"),
        (None, {}, "x: got None, expected a number"),
    ],
)
def test_numbers(value: object, limits: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_number("x", value, **limits)
    assert str(caught.value) == message


def test_good_values_come_back_as_they_are() -> None:
    assert check_number("x", 3, low=3, high=3, integer=True) == 3
    assert check_bool("x", False) is False
    assert check_choice("x", 2, (1, 2)) == 2
    assert check_name("thing", "one", ["one", "two"]) == "one"


def test_the_nearest_name_ignores_case_and_stays_silent_when_nothing_is_close() -> None:
    assert nearest("QMIX", ["QMix", "K24QMix"]) == "; did you mean 'QMix'?"
    assert nearest("zzz", ["QMix", "K24QMix"]) == ""
    with pytest.raises(ConfigError, match=r"unknown thing 'zzz' \(known: one, two\)"):
        check_name("thing", "zzz", ["two", "one"])
    with pytest.raises(ConfigError, match="expected true or false"):
        check_bool("x", 1)


def test_a_line_stays_short_and_keeps_its_ends() -> None:
    line = shortened(f"hidden_dim: got {'9' * 4_000},\nexpected a whole number")
    assert len(line) <= 280
    assert line.startswith("hidden_dim: got 999")
    assert line.endswith("expected a whole number")
    assert shortened("short") == "short"


def test_long_paths_stay_whole() -> None:
    path = f"/tmp/{'d' * 90}/{'e' * 90}"
    line = f"{path}: holds no trial, expected a directory with some; the nearest directory with some is {path}x"
    assert shortened(line) == line
    assert len(shortened(f"/{'d' * 5_000}: can't be made")) < 300
