"""Settings declared once: default, type, bound, documentation and, for a part's option, who gets it, in one line.

A configuration class declares its settings as class attributes:

    class MyConfig(QMixConfig):
        curiosity: float = number(0.1, "Weight of the curiosity bonus; more explores longer.", low=0.0)

From the declaration come the default of every new configuration, the check of what a user gives, the keys that a file
may hold, the arguments and the documentation of the fluent methods, and the lines of `rllib config`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number, nearest

MOST = 10**15
"""No count of anything here is larger: what is lets arithmetic overflow or a run never end."""
Check = Callable[[str, Any], object]
"""Called with a setting's key and value; raises `ConfigError` for one that cannot work."""
Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a configuration.

    Attributes:
        default: Its value in a new configuration.
        doc: What it is for and what raising or lowering it does. The first sentence is its line in `rllib config`.
        check: Refuses a value that cannot work.
        expected: What it may be, in words.
        optional: Whether None (`null` in a file) is a value of its own.
        offers: Which part gets it as which of its options, as in `{"agent": "hidden_dim"}`.
        owner: Name of the class that declares it.
    """

    default: Any
    doc: str
    check: Check
    expected: str
    optional: bool = False
    offers: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""

    def refuse(self, key: str, value: Any) -> None:
        """Raises `ConfigError` if `value` cannot work; the message names `key`."""
        if value is None and self.optional:
            return
        self.check(key, value)

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        text = " ".join(self.doc.split())
        end = next((i for i in range(len(text)) if text.startswith(". ", i)), len(text.rstrip(".")))
        return text[:end]


def number(
    default: float | None,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    optional: bool = False,
    offers: Mapping[str, str] | None = None,
) -> Any:
    """Declares a number within bounds (`above` is exclusive)."""

    def check(key: str, value: Any) -> None:
        check_number(key, value, low=low, high=high, above=above)

    expected = _bounds("a number", low, high, above)
    return Setting(default, doc, check, expected, optional, offers or {})


def whole(
    default: int | None,
    doc: str,
    *,
    low: int = 0,
    high: int | None = None,
    optional: bool = False,
    words: tuple[str, ...] = (),
    offers: Mapping[str, str] | None = None,
) -> Any:
    """Declares a whole number from `low` to `high` (None: `MOST`); `words` are values that are none, as `auto`."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, str) or value not in words:
            check_number(key, value, low=low, high=high, integer=True)
            check_number(key, value, high=MOST, integer=True)

    expected = " or ".join([_bounds("a whole number", low, high, None), *words])
    return Setting(default, doc, check, expected, optional, offers or {})


def flag(default: bool | None, doc: str, *, optional: bool = False, offers: Mapping[str, str] | None = None) -> Any:
    """Declares a switch."""
    return Setting(default, doc, check_bool, "true or false", optional, offers or {})


def choice(default: str, choices: Iterable[str], doc: str, *, offers: Mapping[str, str] | None = None) -> Any:
    """Declares one of a few names."""
    names = tuple(choices)

    def check(key: str, value: Any) -> None:
        check_choice(key, value, names)

    return Setting(default, doc, check, " or ".join(names), offers=offers or {})


def checked(default: Any, doc: str, check: Check, expected: str, *, optional: bool = False) -> Any:
    """Declares what has a check of its own."""
    return Setting(default, doc, check, expected, optional)


def _bounds(kind: str, low: float | None, high: float | None, above: float | None) -> str:
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    if above is not None:
        upper = f" and at most {high:g}" if high is not None else ""
        return f"{kind} above {above:g}{upper}"
    return f"{kind} of at least {low:g}" if low is not None else kind


class Declared:
    """What a configuration class inherits to declare settings."""

    _given: tuple[str, ...]

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Tells each setting who declares it, and documents the fluent methods that take them."""
        super().__init_subclass__(**keywords)
        for name, value in list(vars(cls).items()):
            if isinstance(value, Setting):
                setattr(cls, name, replace(value, owner=cls.__name__))
        for method in vars(cls).values():
            if getattr(method, "takes_settings", False):
                _document(method, cls)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Returns every setting by its key: the most general class's first, a subclass's own word last."""
        found: dict[str, Setting] = {}
        for base in reversed(cls.__mro__):
            found |= {name: value for name, value in vars(base).items() if isinstance(value, Setting)}
        return found

    @classmethod
    def todays(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a file or checkpoint holds under today's names; a class that has renamed settings says which."""
        return dict(settings)

    @classmethod
    def declared(cls, name: str, default: Any) -> Any:
        """Returns a base's setting with another default, for a subclass that declares it so."""
        return replace(cls.settings()[name], default=default)

    def set_defaults(self) -> None:
        """Gives every setting its default."""
        for name, setting in self.settings().items():
            setattr(self, name, _copied(setting.default))

    def set(self, **values: Any) -> None:
        """Sets declared settings, and remembers that they were given.

        Raises:
            ConfigError: naming a setting that isn't declared, and the nearest that is.
        """
        known = self.settings()
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"unknown setting {name!r}: got {value!r}{nearest(name, known)}")
            setattr(self, name, value)
        self._given += tuple(values)

    def check_settings(self) -> None:
        """Checks every declared setting on its own; `ConfigError` names the first that cannot work."""
        for name, setting in self.settings().items():
            setting.refuse(name, getattr(self, name))

    def offered(self, kind: str) -> dict[str, Any]:
        """Returns the options that settings offer to a part of this kind."""
        return {
            setting.offers[kind]: getattr(self, name)
            for name, setting in self.settings().items()
            if kind in setting.offers
        }


def fluent(method: Method) -> Method:
    """Marks a method of a `Declared` class that takes settings as keyword arguments, and has them documented."""
    method.takes_settings = True  # type: ignore[attr-defined]
    return method


def _copied(default: Any) -> Any:
    """Returns a default that nobody else holds, where it could be changed in place."""
    if isinstance(default, Mapping):
        return {key: _copied(value) for key, value in default.items()}
    return [_copied(value) for value in default] if isinstance(default, list) else default


def _document(method: Any, cls: type[Declared]) -> None:
    """Gives a fluent method the signature and the documentation of the settings that are declared for it.

    Those are the settings of its class and of every base up to one that has a fluent method of its own.
    """
    own: dict[str, Setting] = {}
    for base in cls.__mro__:
        if base is not cls and any(getattr(value, "takes_settings", False) for value in vars(base).values()):
            break
        own = {name: value for name, value in vars(base).items() if isinstance(value, Setting)} | own
    kept = [p for p in inspect.signature(method).parameters.values() if p.name == "self"]
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=s.default) for name, s in own.items()]
    rest = inspect.Parameter("settings", inspect.Parameter.VAR_KEYWORD)
    method.__signature__ = inspect.Signature([*kept, *keywords, rest])
    lines = [
        f"            {name}: {' '.join(s.doc.split())} ({s.expected}; default {s.default!r})"
        for name, s in own.items()
    ]
    method.__doc__ = "\n".join([(method.__doc__ or "").rstrip(), "", "        Args:", *lines])
