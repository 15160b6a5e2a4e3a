"""`--set` and `--stop`, laid over what the file says."""

from __future__ import annotations

from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.grid import GRID_KEY
from k24_rllib.experiments.space import DISTRIBUTIONS
from k24_rllib.experiments.yaml_reader import read_yaml_value


def parse_set(option: str) -> tuple[list[str], Any]:
    """Parses one `--set key=value`, as in `env_config.N=6`, into its keys and its value (read as YAML)."""
    key, equals, text = option.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set {option}: expected key=value, as in --set lr=0.001 or --set env_config.N=6")
    return keys, read_yaml_value(text, f"--set {option}")


def parse_stop(option: str) -> dict[str, Any]:
    """Parses one `--stop`: `key=value` or, as the old command took it, a JSON object."""
    if option.lstrip().startswith("{"):
        value = read_yaml_value(option, f"--stop {option}")  # JSON is YAML
        if isinstance(value, dict) and value:
            return value
    else:
        key, equals, text = option.partition("=")
        if equals and key.strip():
            return {key.strip(): read_yaml_value(text, f"--stop {option}")}
    raise ConfigError(
        f"--stop {option}: expected key=value or JSON, as in --stop timesteps_total=100000 "
        """or --stop '{"timesteps_total": 100000}'"""
    )


def apply_set(config: dict[str, Any], option: str) -> None:
    """Puts one `--set key=value` into `config`, in place."""
    keys, value = parse_set(option)
    for depth, key in enumerate(keys[:-1]):
        if key not in config or config[key] is None:
            config[key] = {}
        config = config[key]
        if not isinstance(config, dict) or GRID_KEY in config or any(name in DISTRIBUTIONS for name in config):
            outer = ".".join(keys[: depth + 1])
            raise ConfigError(f"--set {option}: {outer} is {config!r} in the file, which has no keys inside")
    config[keys[-1]] = value
