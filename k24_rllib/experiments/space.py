"""What a file may search over: `lr: {loguniform: [1e-4, 1e-2]}` at any depth of `config`, checked before Ray starts.

Each of Tune's distributions is declared once: its arguments, what must hold of them, and values to try them by.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k24_rllib.checks import ConfigError, check_number, nearest
from k24_rllib.experiments.grid import GRID_KEY

Path = tuple[str, ...]

RANDN_REACH = 4.0
"""Standard deviations to either side of the mean that a normal distribution is checked to."""


@dataclass(frozen=True)
class Distribution:
    """One of Tune's distributions, as a file writes it.

    Attributes:
        name: Its name, here and in `ray.tune`.
        arguments: Names of what it takes, in order.
        integer: Whether it draws whole numbers, the upper end excluded, as Tune has it.
        log: Whether it draws evenly over orders of magnitude.
    """

    name: str
    arguments: tuple[str, ...]
    integer: bool = False
    log: bool = False

    @property
    def usage(self) -> str:
        """How it stands in a file."""
        return f"{self.name}: [{', '.join(self.arguments)}]"

    def check(self, where: str, given: Any) -> list[Any]:
        """Returns the arguments, once it is sure that Tune can draw from them.

        Raises:
            ConfigError: naming `where` it stands and what was expected.
        """
        if not isinstance(given, list) or len(given) != len(self.arguments):
            raise ConfigError(f"{where}: got {self.name}: {given!r}, expected {self.usage}")
        for name, value in zip(self.arguments, given, strict=True):
            positive = name in ("q", "sd") or (self.log and name == "low")
            check_number(f"{where}: {self.name} ({name})", value, above=0 if positive else None, integer=self.integer)
        if "low" in self.arguments:
            self._check_range(where, given)
        return given

    def _check_range(self, where: str, given: list[Any]) -> None:
        low, high = given[:2]
        if low >= high:
            raise ConfigError(f"{where}: got {self.name}: {given!r}, expected low below high")
        if "q" not in self.arguments:
            return
        q = given[2]
        if any(abs(end / q - round(end / q)) > 1e-9 for end in (low, high)):
            raise ConfigError(f"{where}: got {self.name}: {given!r}, expected low and high to be multiples of q ({q})")

    def ends(self, given: list[Any]) -> tuple[Any, Any]:
        """Returns the smallest and the largest value that may be drawn (of a normal one, nearly ever)."""
        low, high = given[:2]
        if "low" not in self.arguments:
            return low - RANDN_REACH * high, low + RANDN_REACH * high
        return low, high - 1 if self.integer and "q" not in self.arguments else high

    def values(self, given: list[Any]) -> list[Any]:
        """Returns values to check a setting with: both ends and one between."""
        low, high = self.ends(given)
        middle = math.sqrt(low * high) if self.log else (low + high) / 2
        return list(dict.fromkeys([low, int(middle) if self.integer else middle, high]))

    def make(self, given: list[Any]) -> Any:
        """Returns Tune's object."""
        from ray import tune

        return getattr(tune, self.name)(*given)


class Choice(Distribution):
    """One of the values of a list, each as likely."""

    def check(self, where: str, given: Any) -> list[Any]:
        """Returns the values, of which there must be one."""
        if not isinstance(given, list) or not given:
            raise ConfigError(f"{where}: got {self.name}: {given!r}, expected {self.usage}")
        return given

    def values(self, given: list[Any]) -> list[Any]:
        """Returns all of them."""
        return list(given)

    def make(self, given: list[Any]) -> Any:
        """Returns Tune's object."""
        from ray import tune

        return tune.choice(given)


_RANGE, _STEPS = ("low", "high"), ("low", "high", "q")

DISTRIBUTIONS: dict[str, Distribution] = {
    one.name: one
    for one in (
        Choice("choice", ("a", "b", "...")),
        Distribution("uniform", _RANGE),
        Distribution("quniform", _STEPS),
        Distribution("loguniform", _RANGE, log=True),
        Distribution("qloguniform", _STEPS, log=True),
        Distribution("randint", _RANGE, integer=True),
        Distribution("qrandint", _STEPS, integer=True),
        Distribution("lograndint", _RANGE, integer=True, log=True),
        Distribution("qlograndint", _STEPS, integer=True, log=True),
        Distribution("randn", ("mean", "sd")),
        Distribution("qrandn", ("mean", "sd", "q")),
    )
}
"""Every distribution that a file may name, beside `grid_search`."""

NOT_SEARCHED = {
    "env": "trials on different tasks can't be ranked",
    "framework": "there is only torch",
    "callbacks": "they are classes",
    "total_env_steps": "every trial's length is the file's stop",
    **dict.fromkeys(
        ("evaluation_interval", "evaluation_duration", "evaluation_num_env_runners", "evaluation_config"),
        "trials are measured by it, all alike",
    ),
    **dict.fromkeys(
        (
            "num_env_runners",
            "num_gpus",
            "num_cpus_for_main_process",
            "num_cpus_per_env_runner",
            "num_gpus_per_env_runner",
        ),
        "what a trial asks Ray for is the same for all",
    ),
}
"""Keys of `config` that no distribution may stand for, and why; a `grid_search` may."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a search."""

    path: Path
    values: list[Any]
    """All values of a grid or a choice; ends and a value between of anything else."""
    distribution: Distribution | None = None
    """None is a grid."""
    arguments: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """Its keys, as `--set` has them."""
        return ".".join(self.path)

    @property
    def log(self) -> bool:
        """Whether it is seen best by orders of magnitude."""
        return self.distribution is not None and self.distribution.log

    @property
    def categorical(self) -> bool:
        """Whether its values are a list."""
        return self.distribution is None or isinstance(self.distribution, Choice)


def space_axes(config: Mapping[str, Any]) -> list[Axis]:
    """Returns every grid and distribution inside `config`, which must be a checked one."""
    return _axes(config, ())


def _axes(config: Mapping[str, Any], path: Path) -> list[Axis]:
    found: list[Axis] = []
    for key, value in config.items():
        here = (*path, str(key))
        if not isinstance(value, Mapping):
            continue
        if GRID_KEY in value:
            found.append(Axis(here, value[GRID_KEY]))
        elif path or not _takes_keys(here):
            named = _named(value)
            if named is None:
                found += _axes(value, here)
            else:
                distribution, given = named
                found.append(Axis(here, distribution.values(given), distribution, tuple(given)))
        else:
            found += _axes(value, here)
    return found


def check_space(run: str, config: Mapping[str, Any]) -> list[Axis]:
    """Checks every distribution inside `config`, and returns the axes of the search; empty if it is none.

    Raises:
        ConfigError: for one that there isn't, that can't be drawn from, or that stands where nothing can be drawn.
    """
    _check(run, config, ())
    return space_axes(config)


def check_distribution(where: str, value: Any) -> tuple[Distribution, list[Any]]:
    """Returns the distribution that `{name: arguments}` names, and its arguments, checked."""
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ConfigError(f"{where}: got {value!r}, expected a distribution, as in loguniform: [1e-4, 1e-2]")
    (name, given) = next(iter(value.items()))
    if name == "sample_from":
        raise ConfigError(
            f"{where}: sample_from calls a Python function, which a file can't hold; expected a distribution "
            "(tune.Tuner takes it from Python)"
        )
    if name not in DISTRIBUTIONS:
        known = f" (known: {GRID_KEY}, {', '.join(DISTRIBUTIONS)})"
        raise ConfigError(f"{where}: unknown distribution {name!r}{nearest(name, [*DISTRIBUTIONS, GRID_KEY]) or known}")
    distribution = DISTRIBUTIONS[name]
    return distribution, distribution.check(where, given)


def _check(run: str, config: Mapping[str, Any], path: Path) -> None:
    for key, value in config.items():
        here = (*path, str(key))
        where = ".".join(here)
        if not isinstance(value, Mapping) or GRID_KEY in value:  # the grid's own check is its module's
            continue
        if not _meant(run, here, value):
            _check(run, value, here)
            continue
        others = [key for key in value if key not in (*DISTRIBUTIONS, "sample_from")]
        if len(value) > 1:
            beside = f" beside {others[0]}" if others else ""
            raise ConfigError(f"{where}: got {dict(value)!r}, expected one distribution and nothing beside it{beside}")
        check_distribution(where, value)
        if here[0] in NOT_SEARCHED:
            raise ConfigError(f"{where}: got a distribution, expected a value: {NOT_SEARCHED[here[0]]}")


def _named(value: Mapping[str, Any]) -> tuple[Distribution, list[Any]] | None:
    name = next(iter(value)) if len(value) == 1 else None
    return (DISTRIBUTIONS[name], value[name]) if name in DISTRIBUTIONS else None


_KEYED = ("env_config", "model", "evaluation_config", "multiagent", "policies", "logger_config", "exploration_config")


def _takes_keys(path: Path) -> bool:
    """Returns whether a top-level key holds keys of its own, so that what stands below it is no distribution."""
    return len(path) == 1 and (path[0] in _KEYED or path[0].endswith("_options"))


def _meant(run: str, path: Path, value: Mapping[str, Any]) -> bool:
    """Returns whether a mapping is meant as a distribution: it names one, or stands where only one can."""
    from k24_rllib import ALGORITHMS

    if _takes_keys(path) or not value:
        return False
    if any(key in DISTRIBUTIONS or key == "sample_from" for key in value):
        return True
    setting = ALGORITHMS.settings_class(run).settings().get(path[0]) if len(path) == 1 else None
    if setting is not None and not isinstance(setting.default, Mapping):
        return True
    (first, *others) = value.items()
    return not others and isinstance(first[1], list) and bool(nearest(first[0], DISTRIBUTIONS)) and len(path) > 1


def as_grid(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `config` with a grid of values to check in place of every distribution."""
    return _replaced(config, lambda axis: {GRID_KEY: axis.values})


def as_tune(config: Mapping[str, Any], *, grid: bool = False) -> dict[str, Any]:
    """Returns `config` as Tune takes it, with its own objects for distributions.

    Args:
        config: A checked configuration.
        grid: Whether choices are gone through one by one.
    """

    def made(axis: Axis) -> Any:
        assert axis.distribution is not None
        if grid and isinstance(axis.distribution, Choice):
            return {GRID_KEY: axis.values}
        return axis.distribution.make(list(axis.arguments))

    return _replaced(config, made)


def _replaced(config: Mapping[str, Any], make: Any) -> dict[str, Any]:
    changed = copy.deepcopy(dict(config))
    for axis in space_axes(config):
        if axis.distribution is not None:
            put(changed, axis.path, make(axis))
    return changed


def put(config: dict[str, Any], path: Path, value: Any) -> None:
    """Sets the value at the end of a path of keys, in place."""
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value


def value_at(config: Mapping[str, Any], path: Path) -> Any:
    """Returns the value at the end of a path of keys, as a plain number where it is NumPy's; None if there is none."""
    value: Any = config
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value.item() if hasattr(value, "item") else value
