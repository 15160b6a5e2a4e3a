"""Reading YAML as researchers write it: `5e-4` is a number, `2:4` is text, a key given twice is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from k24_rllib.checks import ConfigError, nearest

MOST_LEVELS = 50
MOST_VALUES = 100_000

# YAML 1.1 wants `5.0e-4` and reads `5e-4` as text, which nobody who writes `lr: 5e-4` means.
_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*\.?\d*(?:[eE][-+]?\d+)|\.\d+(?:[eE][-+]?\d+)?)$")

# YAML 1.1 counts `2:4` in base 60, which nobody who writes `pattern: 2:4` means.
_RATIO = re.compile(r"^\d+(?::\d+)+$")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the changes that the module's docstring names."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
for _digit in "0123456789":  # before YAML's own numbers
    _Loader.yaml_implicit_resolvers[_digit].insert(0, ("tag:yaml.org,2002:str", _RATIO))


def read_yaml_file(path: Path) -> object:
    """Returns what the YAML file at `path` holds.

    Raises:
        ConfigError: if there is no such file, it is a directory, can't be read, or isn't YAML (with the line).
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a directory, expected a YAML file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_nearest_file(path)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file, expected YAML") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    return _load(text, str(path))


def read_yaml_value(text: str, option: str) -> object:
    """Returns the value that `text` means in YAML; `option` says where it was given, for the message."""
    return _load(text, option)


def _load(text: str, source: str) -> object:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, source)
        return loader.construct_document(node)
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply, expected at most {MOST_LEVELS} levels") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark and "\n" in text.strip() else ""
        raise ConfigError(f"{source}: {line}{error.problem or 'not valid YAML'}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None
    except ValueError as error:  # a date such as 2020-13-45
        raise ConfigError(f"{source}: not valid YAML ({error})") from None


def _check_size(top: yaml.Node, source: str) -> None:
    """Checks how much a file holds once its aliases are written out: nine lines can stand for a billion values.

    Raises:
        ConfigError: for what stands inside itself, is too deep, or is more than anybody means.
    """
    sizes: dict[int, int] = {}  # of nodes that are measured; 0 while what is inside them is

    def measure(node: yaml.Node, level: int) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise ConfigError(
                    f"{source}: line {node.start_mark.line + 1}: what is anchored here stands inside itself"
                )
            return sizes[id(node)]
        if level > MOST_LEVELS:
            raise RecursionError
        sizes[id(node)] = 0
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inside for part in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = 1 + sum(measure(part, level + 1) for part in parts)
        return sizes[id(node)]

    if measure(top, 0) > MOST_VALUES:
        raise ConfigError(
            f"{source}: its aliases stand for {sizes[id(top)]:,} values, expected at most {MOST_VALUES:,}"
        )


def _nearest_file(path: Path) -> str:
    """Returns a hint at a file beside the missing one whose name is close to it."""
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, (other.name for other in path.parent.iterdir() if other.suffix in {".yaml", ".yml"}))
