"""How large a method is: what it learns, and what one agent computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.checkpoints import find_checkpoint, read_policy_state
from k24_rllib.qmix.manifest import DamagedCheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from k24_rllib.qmix import QMixTorchPolicy


@dataclass(frozen=True)
class ParameterCount:
    """The size of a method's networks; see `QMixTorchPolicy.num_parameters`."""

    parameters_trained: int
    """Everything that is learned: the agents' networks, what selects masks (alpha or thresholds) and the mixer."""
    parameters_agent: int
    """What one agent acts with, mean over mask owners: of a masked layer the weights that its owner keeps."""
    bytes_team: int
    """What all agents together need to act: what they share once, and masks."""


def parameters_of(algorithm: str, settings: Mapping[str, Any], trial: Path | None = None) -> ParameterCount:
    """Builds the networks of a configuration, which needs no Ray, and counts their parameters.

    Args:
        algorithm: Its registered name.
        settings: The trial's settings, environment included.
        trial: Where to look for a checkpoint, whose weights are counted: how much is pruned may be learned.

    Raises:
        ConfigError: if the configuration, or the checkpoint, is not one of this version.
    """
    policy = _build_policy(algorithm, settings)
    state = _agent_state(trial) if trial is not None else None
    if state is not None:
        _load_parameters(policy.model.agent, state, trial)
    size = policy.num_parameters()
    return ParameterCount(**{field.name: round(size[field.name]) for field in fields(ParameterCount)})


def _build_policy(algorithm: str, settings: Mapping[str, Any]) -> QMixTorchPolicy:
    from k24_rllib import ALGORITHMS
    from k24_rllib.experiments.experiment import build_config

    if algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {algorithm!r}")
    return build_config(algorithm, settings).build_policy()


def _load_parameters(agent: nn.Module, state: Mapping[str, Tensor], trial: Path | None) -> None:
    """Takes over what a checkpoint knows; statistics that older ones lack change nothing that is counted."""
    learned = {name for name, _ in agent.named_parameters()}
    try:
        missing = learned.intersection(agent.load_state_dict(state, strict=False).missing_keys)
    except RuntimeError:  # of another shape
        missing = learned
    if missing:
        raise ConfigError(f"{trial}: its checkpoint is of another version of the networks")


def _agent_state(trial: Path) -> dict[str, Tensor] | None:
    """Returns the state of the agents' network in a trial's newest checkpoint, or None if it has none."""
    import torch

    try:
        state = read_policy_state(find_checkpoint(str(trial)))["model"]
    except DamagedCheckpointError:
        raise
    except ConfigError:  # there is none
        return None
    return {name.removeprefix("agent."): torch.as_tensor(value) for name, value in state.items() if "agent." in name}
