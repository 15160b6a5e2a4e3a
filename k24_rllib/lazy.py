"""Names of a package that are imported when they are first asked for (PEP 562).

So a package's door costs nothing, and the parts of it that need neither Ray nor PyTorch work where those are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_from(package: dict[str, Any], modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a package's `__getattr__`.

    Args:
        package: The package's `globals()`, which keep a name once it was asked for.
        modules: The module inside the package that each name comes from.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package['__name__']}.{modules[name]}"), name)
        package[name] = value
        return value

    return getattr_
