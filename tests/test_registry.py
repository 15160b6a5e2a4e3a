"""Parts by name: registering, options, and the one line that says what is wrong."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.registry import Part, Registry


class Chair:
    """Something to be made."""

    def __init__(self, legs: int, *, colour: str = "oak", height: float = 0.5) -> None:
        self.legs, self.colour, self.height = legs, colour, height


def chairs() -> Registry:
    registry = Registry("chair", given=("legs",), product=Chair)
    registry.register("plain", Chair)
    return registry


def test_a_part_is_made_of_what_is_given_and_its_options() -> None:
    chair = chairs().part("plain", {"colour": "red"}).make(3)
    assert (chair.legs, chair.colour, chair.height) == (3, "red", 0.5)


def test_what_is_offered_comes_where_the_factory_has_an_option_for_it_and_the_users_word_stands() -> None:
    part = chairs().part("plain", {"colour": "red"}, {"colour": "blue", "height": 1.0, "weight": 3})
    assert dict(part.options) == {"colour": "red", "height": 1.0}


def test_an_unknown_name_has_the_nearest_known() -> None:
    with pytest.raises(ConfigError, match="unknown chair 'plian'; did you mean 'plain'"):
        chairs().part("plian")


def test_an_unknown_option_has_the_nearest_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown chair_options key 'color' of chair 'plain'; did you mean 'colour'"):
        chairs().part("plain", {"color": "red"})
    with pytest.raises(
        ConfigError, match=r"unknown chair_options key 'zzz' of chair 'plain' \(known: colour, height\)"
    ):
        chairs().part("plain", {"zzz": 1})


def test_options_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"chair_options: got \[1\], expected keys and values"):
        chairs().part("plain", [1])  # type: ignore[arg-type]


def test_an_option_without_a_default_must_be_given() -> None:
    registry = chairs()
    registry.register("named", lambda legs, name: Chair(legs))
    with pytest.raises(ConfigError, match="chair_options: name of chair 'named' is missing"):
        registry.part("named")
    assert isinstance(registry.part("named", {"name": "x"}).make(4), Chair)


def test_a_name_that_something_else_has_is_refused() -> None:
    registry = chairs()
    with pytest.raises(ConfigError, match=r"chair 'plain': exists already \(.*Chair\), expected another name"):
        registry.register("plain", lambda legs: Chair(legs))
    assert registry.factory("plain") is Chair


def test_the_same_factory_may_come_again_and_one_defined_anew_takes_its_place() -> None:
    registry = chairs()
    registry.register("plain", Chair)
    again: Any = type("Chair", (), dict(vars(Chair)))
    again.__module__, again.__qualname__ = Chair.__module__, Chair.__qualname__
    registry.register("plain", again)
    assert registry.factory("plain") is again


def test_partials_of_one_function_with_other_arguments_are_others() -> None:
    registry = chairs()
    registry.register("tall", partial(Chair, height=2.0))
    registry.register("tall", partial(Chair, height=2.0))
    with pytest.raises(ConfigError, match="exists already"):
        registry.register("tall", partial(Chair, height=3.0))


@pytest.mark.parametrize(
    ("name", "factory", "message"),
    [
        ("bench", 3, "chair 'bench': got 3, expected a class or function that makes it"),
        ("", Chair, "chair name: got '', expected a text of ASCII characters"),
        ("stool", lambda: Chair(3), r"can't be called as stool\(legs, options...\)"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: str, factory: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chairs().register(name, factory)


def test_a_factory_that_makes_something_else_is_named() -> None:
    registry = chairs()
    registry.register("table", lambda legs: legs)
    with pytest.raises(ConfigError, match="chair 'table': its factory made an int, expected a Chair"):
        registry.part("table").make(4)


def test_a_factory_of_any_options_takes_any() -> None:
    registry = chairs()
    registry.register("free", lambda legs, **options: Chair(legs, **options))
    assert registry.part("free", {"colour": "red"}, {"height": 2.0}).make(1).colour == "red"


def test_a_part_travels_by_pickling_and_prints_as_its_name() -> None:
    part = chairs().part("plain", {"colour": "red"})
    there: Part = pickle.loads(pickle.dumps(part))
    assert there.make(4).colour == "red"
    assert repr(part) == "chair plain, colour='red'"
