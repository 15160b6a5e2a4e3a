"""Agents and mixers as RLlib models, built from the masked layers of `k24_rllib.sparsity`."""

from k24_rllib.models.agent import AgentWeights, TeamAgent, agent_inputs
from k24_rllib.models.mixers import MIXERS, IndependentMixer, QMixer, VDNMixer, make_mixer
from k24_rllib.models.team_model import (
    LAYERS,
    MODEL_NAME,
    UNAVAILABLE,
    TeamRNNModel,
    layer_factory,
    register_models,
    team_observation_space,
)

__all__ = [
    "LAYERS",
    "MIXERS",
    "MODEL_NAME",
    "UNAVAILABLE",
    "AgentWeights",
    "IndependentMixer",
    "QMixer",
    "TeamAgent",
    "TeamRNNModel",
    "VDNMixer",
    "agent_inputs",
    "layer_factory",
    "make_mixer",
    "register_models",
    "team_observation_space",
]
