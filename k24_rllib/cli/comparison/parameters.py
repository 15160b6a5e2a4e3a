"""How large a method is: what it learns, and what one agent computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k24_rllib.checks import ConfigError
from k24_rllib.cli.checkpoints import find_checkpoint, read_policy_state

if TYPE_CHECKING:
    from torch import Tensor, nn

    from k24_rllib.models import TeamRNNModel


@dataclass(frozen=True)
class ParameterCount:
    """The size of a method's networks."""

    parameters: int
    """Everything that is learned: the agents' network, what selects masks (alpha or thresholds) and the mixer."""
    agent_parameters: int
    """What one agent computes with: of a masked layer the weights its owner keeps, n of m; the rest in full."""
    bytes: int
    """Of all that is learned, in the precision it has."""


def count_parameters(model: TeamRNNModel) -> ParameterCount:
    """Counts the parameters of a `TeamRNNModel`.

    A weight that an owner's mask leaves out is exactly 0 in what the layer hands to its product, whatever the kind of
    layer; so what is not 0 is what an agent uses. Agents that keep different numbers (Kaleidoscope) are averaged.
    """
    learned = list(model.parameters())
    agent: Any = model.agent
    layers = agent.layers()
    masked = {id(parameter) for layer in layers for parameter in layer.parameters()}
    per_agent = sum(parameter.numel() for parameter in agent.parameters() if id(parameter) not in masked)
    for layer in layers:
        used = layer.weights(explore=False).detach()  # [A, J, I]
        kept = used.index_select(0, agent.mask_ids).count_nonzero() / agent.num_agents
        per_agent += round(float(kept)) + (0 if layer.bias is None else layer.bias.shape[-1])
    return ParameterCount(
        parameters=sum(parameter.numel() for parameter in learned),
        agent_parameters=per_agent,
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in learned),
    )


def parameters_of(algorithm: str, settings: Mapping[str, Any], trial: Path | None = None) -> ParameterCount:
    """Builds the networks of a configuration, which needs no Ray, and counts their parameters.

    Args:
        algorithm: Its registered name.
        settings: The trial's settings, environment included.
        trial: Where to look for a checkpoint, whose weights are counted: how much is pruned may be learned.

    Raises:
        ConfigError: if the configuration, or the checkpoint, is not one of this version.
    """
    model = _build_model(algorithm, settings)
    state = _agent_state(trial) if trial is not None else None
    if state is not None:
        _load_parameters(model.agent, state, trial)
    return count_parameters(model)


def _build_model(algorithm: str, settings: Mapping[str, Any]) -> TeamRNNModel:
    from ray.rllib.models import ModelCatalog

    from k24_rllib import ALGORITHMS
    from k24_rllib.cli.experiment import build_config
    from k24_rllib.envs import team_env_factory
    from k24_rllib.qmix.rollout import TeamBaseEnv

    if algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {algorithm!r}")
    config = build_config(algorithm, settings)
    team = TeamBaseEnv(team_env_factory(config.env), config.env_config)
    space = ModelCatalog.get_preprocessor_for_space(team.observation_space).observation_space
    policy = config.algo_class.get_default_policy_class(config)(space, team.action_space, config.to_dict())
    model: TeamRNNModel = policy.model
    return model


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
    except ConfigError:
        return None
    return {name.removeprefix("agent."): torch.as_tensor(value) for name, value in state.items() if "agent." in name}
