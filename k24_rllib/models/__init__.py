"""Agents and mixers as RLlib models, built from the masked layers of `k24_rllib.sparsity`."""

from typing import TYPE_CHECKING

from k24_rllib.lazy import names_from
from k24_rllib.models.agent import AGENTS, Agent, AgentWeights, LayerFactory, Stage, agent_inputs, through_layers
from k24_rllib.models.feedforward_agent import FeedforwardAgent
from k24_rllib.models.gru_agent import GRUAgent
from k24_rllib.models.mixers import MIXERS, IndependentMixer, QMixer, VDNMixer
from k24_rllib.models.owners import OwnerGroups

if TYPE_CHECKING:
    from k24_rllib.models.team_model import (
        MODEL_NAME,
        UNAVAILABLE,
        TeamModel,
        layer_factory,
        make_agent,
        make_mixer,
        register_models,
        team_observation_space,
    )

_MODULES = dict.fromkeys(
    (
        "MODEL_NAME",
        "UNAVAILABLE",
        "TeamModel",
        "layer_factory",
        "make_agent",
        "make_mixer",
        "register_models",
        "team_observation_space",
    ),
    "team_model",
)
"""What needs RLlib."""

__all__ = [
    "AGENTS",
    "MIXERS",
    "MODEL_NAME",
    "UNAVAILABLE",
    "Agent",
    "AgentWeights",
    "FeedforwardAgent",
    "GRUAgent",
    "IndependentMixer",
    "LayerFactory",
    "OwnerGroups",
    "QMixer",
    "Stage",
    "TeamModel",
    "VDNMixer",
    "agent_inputs",
    "layer_factory",
    "make_agent",
    "make_mixer",
    "register_models",
    "team_observation_space",
    "through_layers",
]

__getattr__ = names_from(globals(), _MODULES)
