"""Parts by name: what a user changes first costs one file and one registration.

Layers, mixers, agents, environments and algorithms each have a `Registry`. The package's own come in by the same calls
as a user's, and nothing else knows their names. What is named in a file becomes a `Part`: the factory with its options,
checked against the factory's signature, which travels to other processes by pickling as any function does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from k24_rllib.checks import ConfigError, check_name, nearest

Factory = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A named factory and the options that it is to be called with.

    Attributes:
        kind: What it makes, for messages: `"layer"`.
        name: The name it is registered under.
        factory: What makes it.
        options: Keyword arguments beside what the package gives.
        product: The class that it must make an instance of, or None.
    """

    kind: str
    name: str
    factory: Factory = field(compare=False)  # a copy of a partial is another object, and the same part
    options: Mapping[str, Any] = field(default_factory=dict)
    product: type | None = None

    def make(self, *given: Any) -> Any:
        """Calls the factory with what the package gives and the options.

        Raises:
            ConfigError: naming the part if it makes something else than its kind, or can't make anything.
        """
        try:
            made = self.factory(*given, **self.options)
        except ConfigError:
            raise
        except Exception as error:  # a user's code may raise anything
            reason = " ".join(str(error).split())
            raise ConfigError(f"{self.kind} {self.name!r}: can't be made ({type(error).__name__}: {reason})") from error
        if self.product is not None and not isinstance(made, self.product):
            raise ConfigError(
                f"{self.kind} {self.name!r}: its factory made {_a(type(made))}, expected {_a(self.product)}"
            )
        return made

    def __repr__(self) -> str:
        return ", ".join([f"{self.kind} {self.name}", *(f"{key}={value!r}" for key, value in self.options.items())])


class Registry:
    """Factories of one kind by name.

    Args:
        kind: What the factories make, for messages: `"layer"`.
        given: Names of what the package gives a factory, in order; whatever else its signature has is an option.
        product: The class that a factory must make an instance of; None where that is checked elsewhere.
        options_key: The setting that holds a part's options, for messages; `<kind>_options` if None.
    """

    elsewhere: ClassVar[Callable[[str, str], Factory | None]] = staticmethod(lambda kind, name: None)
    """Looks for a factory that another process registered, by kind and name; `qmix.sharing` puts Ray's store here."""

    def __init__(
        self, kind: str, given: tuple[str, ...], product: type | None = None, options_key: str | None = None
    ) -> None:
        self.kind = kind
        self.options_key = options_key or f"{kind}_options"
        self._given = given
        self._product = product
        self._factories: dict[str, Factory] = {}

    def register(self, name: str, factory: Factory) -> None:
        """Makes a factory known as `name`.

        A factory that is defined again (a notebook's cell run twice, a module loaded anew) takes its own place.

        Raises:
            ConfigError: for a name that something else has, or for what cannot be called with what is given.
        """
        if not isinstance(name, str) or not name.strip() or not name.isascii():
            raise ConfigError(f"{self.kind} name: got {name!r}, expected a text of ASCII characters")
        if not callable(factory):
            raise ConfigError(f"{self.kind} {name!r}: got {factory!r}, expected a class or function that makes it")
        known = self._factories.get(name)
        if known is not None and _origin(known) != _origin(factory):
            raise ConfigError(f"{self.kind} {name!r}: exists already ({_described(known)}), expected another name")
        self._check_takes_given(name, factory)
        self._factories[name] = factory

    def names(self) -> list[str]:
        """Returns the known names, sorted."""
        return sorted(self._factories)

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def check(self, name: object) -> str:
        """Returns `name` if it is known, here or elsewhere; otherwise `ConfigError` has the nearest that is."""
        if isinstance(name, str) and name not in self._factories:
            found = Registry.elsewhere(self.kind, name)
            if found is not None:
                self._factories.setdefault(name, found)  # to find it may have imported what registers it
        return check_name(self.kind, name, self._factories)

    def factory(self, name: str) -> Factory:
        """Returns the factory of a known name."""
        return self._factories[self.check(name)]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Returns the options of a known name's factory; `**` stands for any where the factory takes any."""
        parameters = list(_signature(self.factory(name)).values())
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        given = positional[: len(self._given)]
        return {
            "**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name: parameter
            for parameter in parameters
            if parameter not in given and parameter.kind is not parameter.VAR_POSITIONAL
        }

    def part(
        self, name: str, options: Mapping[str, Any] | None = None, offered: Mapping[str, Any] | None = None
    ) -> Part:
        """Returns the part of a name with its options.

        Args:
            name: A known name.
            options: What the user gave; each must be an option of the factory.
            offered: What the factory gets where it has such an option, and what is left out where it hasn't.

        Raises:
            ConfigError: naming an unknown name or option and the nearest known, or an option that is missing.
        """
        known = self.options(name)
        given = check_mapping(self.options_key, options)
        for key in given:
            if key not in known and "**" not in known:
                names = f" (known: {', '.join(known) or 'none'})"
                raise ConfigError(
                    f"unknown {self.options_key} key {key!r} of {self.kind} {name!r}{nearest(key, known) or names}"
                )
        taken = {key: value for key, value in (offered or {}).items() if key in known} | dict(given)
        for key, parameter in known.items():
            if key != "**" and parameter.default is parameter.empty and key not in taken:
                raise ConfigError(f"{self.options_key}: {key} of {self.kind} {name!r} is missing, expected a value")
        return Part(self.kind, name, self.factory(name), taken, self._product)

    def _check_takes_given(self, name: str, factory: Factory) -> None:
        parameters = list(_signature(factory).values())
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(positional) < len(self._given) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            expected = f"{name}({', '.join([*self._given, 'options...'])})"
            raise ConfigError(f"{self.kind} {name!r}: {_described(factory)} can't be called as {expected}")


def check_mapping(key: str, value: object) -> Mapping[str, Any]:
    """Checks that `value` is a mapping of names to values, or None for none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: got {value!r}, expected keys and values")
    return {str(name): its for name, its in value.items()}


def _a(cls: type) -> str:
    """Returns a class's name with its article."""
    return f"{'an' if cls.__name__[0].lower() in 'aeiou' else 'a'} {cls.__name__}"


def _signature(factory: Factory) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(factory).parameters


def _origin(factory: Factory) -> object:
    """Returns what tells one factory from another: where it is defined, so that one defined again is the same."""
    if isinstance(factory, functools.partial):
        return _origin(factory.func), factory.args, tuple(sorted(factory.keywords.items(), key=lambda item: item[0]))
    name = getattr(factory, "__qualname__", None)
    return (factory.__module__, name) if name is not None else id(factory)


def _described(factory: Factory) -> str:
    if isinstance(factory, functools.partial):
        return _described(factory.func)
    name = getattr(factory, "__qualname__", repr(factory))
    return f"{getattr(factory, '__module__', '?')}.{name}"
