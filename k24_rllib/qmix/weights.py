"""A network's weights alone, in a `.safetensors` file: for sharing with strangers, as reading one runs no code.

The file's metadata hold what rebuilds the network: the algorithm's registered name and, as JSON, the environment and
the settings that the network is made of. Its digest is of all of the file's bytes with 64 zeros in its own place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.models import MODEL_NAME
from k24_rllib.qmix.manifest import replace_file
from k24_rllib.serve.container import NO_DIGEST, is_sealed, seal

if TYPE_CHECKING:
    from torch import nn

    from k24_rllib.qmix.config import QMixConfig

WEIGHTS_FILE = "weights.safetensors"
"""Its name in a checkpoint."""
FORMAT = "k24_rllib weights"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds."""

    path: Path
    algorithm: str
    """The registered name."""
    settings: dict[str, Any]
    """Environment and network, as flat settings."""
    agents: int
    tensors: dict[str, Tensor]


def shared_settings(config: QMixConfig) -> dict[str, Any]:
    """Returns what rebuilds a configuration's network: its environment, and every setting that is not the default.

    All of them, since some only go together; RLlib's own settings stay here.

    Raises:
        ConfigError: naming a setting that JSON can't hold, or a model of the user's own.
    """
    if config.model.get("custom_model") not in (None, MODEL_NAME):
        raise ConfigError(f"custom_model: got {config.model['custom_model']!r}, expected {MODEL_NAME} to share weights")
    default = type(config)()
    settings = {name: getattr(config, name) for name in config.settings()}
    settings = {name: value for name, value in settings.items() if value != getattr(default, name)}
    given = {"env": config.env, "env_config": config.env_config, **settings}
    return {name: _as_json(name, value) for name, value in given.items()}


def _as_json(name: str, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: got {value!r}, expected what JSON can hold, to share weights") from None


def save_weights(model: nn.Module, config: QMixConfig, path: Path | str) -> None:
    """Writes the weights of a policy's online network, agents and mixer.

    Args:
        model: The policy's `model`.
        config: What built it.
        path: The file; written under another name first.

    Raises:
        ConfigError: for a configuration that plain JSON can't hold.
    """
    from safetensors.torch import save

    about = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "algorithm": config.algo_name,
        "layer": str(config.layer or config.own_layer),
        "agents": str(model.num_agents),
        "settings": json.dumps(shared_settings(config)),
        "digest": NO_DIGEST,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    replace_file(Path(path), seal(save(tensors, about)))


def read_weights(path: Path | str) -> Weights:
    """Reads a file of weights, and runs no code of it.

    Raises:
        ConfigError: for a file that is not as it was written, or of a format that this version does not know.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from error
    about = _about(path, content)
    try:
        tensors = load(content)
        settings, agents = json.loads(about["settings"]), int(about["agents"])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is damaged ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: settings: got {settings!r}, expected keys and values")
    return Weights(path, about["algorithm"], settings, agents, tensors)


def _about(path: Path, content: bytes) -> dict[str, str]:
    """Returns the metadata of a file's content, which is as it was written."""
    size = int.from_bytes(content[:8], "little")
    try:
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        kind, version, digest = about["format"], about["format_version"], about["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{path}: is no file of weights of k24_rllib, or a damaged one") from None
    if not is_sealed(content, digest):
        raise ConfigError(f"{path}: is damaged (its digest is not its content's)")
    if kind != FORMAT or version != str(FORMAT_VERSION):
        raise ConfigError(f"{path}: is of format {f'{kind} {version}'!r}, expected {FORMAT} {FORMAT_VERSION}")
    return {str(key): str(value) for key, value in about.items()}


def config_of(weights: Weights) -> QMixConfig:
    """Returns the configuration of the network that a file's weights belong to, everything else by default.

    Raises:
        ConfigError: for an algorithm, an environment or a part that isn't registered here, or other settings than those
            of a network: a file of a stranger has no say in anything else.
    """
    from k24_rllib.qmix.registry import ALGORITHMS

    config = ALGORITHMS[weights.algorithm]()
    for key in weights.settings:
        if key not in config.settings() and key not in ("env", "env_config"):
            raise ConfigError(f"{weights.path}: {key}: is no setting of {weights.algorithm}'s network")
    try:
        config.apply_dict(weights.settings)
        config.validate()
    except ConfigError as error:
        raise ConfigError(f"{weights.path}: {error}") from error
    return config


def load_network(where: str, state: Mapping[str, Any], model: nn.Module) -> None:
    """Gives a network the state of another one.

    Args:
        where: What the state is from, for the message.
        state: Arrays or tensors by name.
        model: The network that is to have them.

    Raises:
        ConfigError: naming the first that the network has in another shape, or only one of both has.
    """
    expected = model.state_dict()
    for name in expected:
        there, here = (list(np.shape(its[name])) if name in its else None for its in (state, expected))
        if there is not None and there != here:
            raise ConfigError(f"{where}: is of a network of other shapes ({name}: {there} there, {here} here)")
    try:
        model.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        names = sorted(state.keys() ^ expected.keys()) or ["a value"]
        side = "there" if names[0] in state else "here"
        raise ConfigError(f"{where}: is of another kind of network ({names[0]} is {side} alone)") from error
