"""Settings declared once: defaults, checks, fluent methods and their documentation come from the declaration."""

from __future__ import annotations

import inspect
from typing import Any, Self

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.settings import Declared, checked, choice, flag, fluent, number, whole


class Base(Declared):
    """A configuration with settings of every kind."""

    speed: float = number(1.0, "How fast. More is faster.", above=0.0, high=5.0, offers={"engine": "rate"})
    wheels: int = whole(4, "How many wheels.", low=1)
    name: str | None = choice("car", ("car", "cart"), "What it is.")
    lights: bool = flag(True, "Whether it has lights.")
    limit: float | None = number(None, "The limit; null for none.", low=0.0, optional=True)
    hours: Any = whole(2, "Hours, or auto.", words=("auto",))
    points: Any = checked([1, 2], "Points.", lambda key, value: None, "points")

    def __init__(self) -> None:
        self._given: tuple[str, ...] = ()
        self.set_defaults()

    @fluent
    def drive(self, **settings: Any) -> Self:
        """Sets how it drives."""
        self.set(**settings)
        return self


class Racer(Base):
    """A subclass with a setting of its own and another default."""

    wheels: int = Base.declared("wheels", 3)
    boost: float = number(0.5, "Boost.", low=0.0, high=1.0)

    @fluent
    def race(self, **settings: Any) -> Self:
        """Sets how it races."""
        self.set(**settings)
        return self


def test_a_new_configuration_has_the_declared_defaults_and_a_subclass_its_own() -> None:
    assert (Base().speed, Base().wheels, Base().limit) == (1.0, 4, None)
    assert (Racer().wheels, Racer().boost, Racer().speed) == (3, 0.5, 1.0)


def test_defaults_are_not_shared() -> None:
    first, second = Base(), Base()
    first.points.append(3)
    assert second.points == [1, 2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("speed", 0.0, r"speed: got 0.0, expected a number at most 5.0 and above 0.0|speed: got 0.0"),
        ("speed", 6.0, "speed: got 6.0"),
        ("wheels", 0, "wheels: got 0, expected a whole number at least 1"),
        ("wheels", 2.5, "wheels: got 2.5, expected a whole number"),
        ("name", "crat", "name: got 'crat', expected one of 'car', 'cart'; did you mean 'cart'"),
        ("lights", "yes", "lights: got 'yes', expected true or false"),
        ("limit", -1.0, "limit: got -1.0"),
        ("wheels", None, "wheels: got None"),
        ("hours", "often", "hours: got 'often'"),
    ],
)
def test_a_value_that_cannot_work_is_named(name: str, value: Any, message: str) -> None:
    config = Base().drive(**{name: value})
    with pytest.raises(ConfigError, match=message):
        config.check_settings()


def test_values_that_work_pass() -> None:
    Base().drive(speed=5.0, limit=None, hours="auto", name="cart").check_settings()


def test_an_unknown_setting_has_the_nearest_known() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'wheel': got 3; did you mean 'wheels'"):
        Base().drive(wheel=3)


def test_what_was_given_is_remembered() -> None:
    assert Racer().race(boost=0.1).drive(speed=2.0)._given == ("boost", "speed")


def test_settings_are_offered_to_parts_under_the_parts_names() -> None:
    assert Base().drive(speed=2.0).offered("engine") == {"rate": 2.0}
    assert Base().offered("door") == {}


def test_fluent_methods_show_their_settings_and_no_others() -> None:
    assert list(inspect.signature(Racer.race).parameters) == ["self", "wheels", "boost", "settings"]
    assert "boost: Boost. (a number from 0 to 1; default 0.5)" in (Racer.race.__doc__ or "")
    assert "speed" in inspect.signature(Racer.drive).parameters


def test_a_setting_knows_its_owner_and_its_line() -> None:
    assert Racer.settings()["boost"].owner == "Racer"
    assert Racer.settings()["speed"].owner == "Base"
    assert Racer.settings()["speed"].summary == "How fast"
