"""Teams of every kind, small and with weights of a size at which owners act differently; an environment with roles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import k24_rllib
from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.envs import TeamEnv, TeamStep, make_team_env
from k24_rllib.experiments.export import team_of
from k24_rllib.serve import Team
from k24_rllib.sparsity import KaleidoscopeLinear, SemiStructuredLinear

AGENTS, OWNERS, OBS, ACTIONS = 3, 4, 7, 6


class Roles(TeamEnv):
    """Random observations and available actions; owners stay, or each reset draws them for each copy."""

    def __init__(self, num_envs: int, change: bool = True, max_cycles: int = 5) -> None:
        self.num_envs, self.num_agents, self.num_actions = num_envs, AGENTS, ACTIONS
        self.obs_dim, self.state_dim, self.episode_limit, self.num_mask_owners = OBS, 3, max_cycles, OWNERS
        self._change = change
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> TeamStep:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._steps = 0
        drawn = self._rng.integers(OWNERS, size=(self.num_envs, AGENTS))
        self._owners = drawn if self._change else np.tile([2, 0, 2], (self.num_envs, 1))
        return self._look()

    def step(self, actions: np.ndarray) -> TeamStep:
        self._steps += 1
        return self._look()

    def _look(self) -> TeamStep:
        copies = self.num_envs
        available = self._rng.random((copies, AGENTS, ACTIONS)) < 0.6
        available[..., 1] |= ~available.any(-1)
        return TeamStep(
            obs=self._rng.standard_normal((copies, AGENTS, OBS)).astype(np.float32),
            state=self._rng.standard_normal((copies, 3)).astype(np.float32),
            avail_actions=available,
            mask_ids=self._owners.copy(),
            team_reward=np.zeros(copies, np.float32),
            agent_rewards=np.zeros((copies, AGENTS), np.float32),
            terminated=np.zeros(copies, bool),
            truncated=np.full(copies, self._steps >= self.episode_limit),
        )


k24_rllib.register_team_env("serve_roles", Roles)

KINDS: dict[str, Callable[[], Any]] = {
    "2:4": lambda: K24QMixConfig(),
    "2:4 feedforward": lambda: K24QMixConfig().training(agent="feedforward", last_action_input=True),
    "2:4 scaled": lambda: K24QMixConfig().training(owner_scale=True),
    "1:4 one mask": lambda: K24QMixConfig().k24(pattern="1:4", shared_mask=True, div_coef=0.0),
    "kaleidoscope": lambda: KaleidoscopeQMixConfig().training(last_action_input=True),
    "independent": lambda: QMixConfig().training(layer="independent", agent_id_input=False),
    "one mask scaled": lambda: K24QMixConfig().training(owner_scale=True).k24(shared_mask=True, div_coef=0.0),
    "hyper": lambda: QMixConfig().training(layer="hyper"),
    "dense": lambda: QMixConfig(),
    "dense scaled": lambda: QMixConfig().training(owner_scale=True),
}


@dataclass(frozen=True)
class Made:
    """A policy's network, where it came from and the team that it becomes."""

    config: Any
    model: Any
    env: TeamEnv

    def team(self, dtype: str = "float32") -> Team:
        return team_of(self.config, self.model, self.env, dtype)


@pytest.fixture
def make(small: Callable) -> Callable[..., Made]:
    """Makes a network of a kind; its owners keep different weights."""

    def build(kind: str, env: str = "mpe_simple_spread", **env_config: Any) -> Made:
        config = small(KINDS[kind](), env, **env_config)
        torch.manual_seed(0)
        model = config.build_policy().model
        with torch.no_grad():
            for parameter in model.agent.parameters():
                parameter.mul_(2.0)
            for layer in model.agent.layers():
                if layer.owner_gain is not None:
                    layer.owner_gain.normal_(1.0, 0.5)
                    layer.owner_bias.normal_(0.0, 0.5)
                if isinstance(layer, SemiStructuredLinear):
                    layer.hetero_alpha.normal_(std=3.0)
                if isinstance(layer, KaleidoscopeLinear):
                    layer.thresholds.copy_(torch.randn_like(layer.thresholds) - 2.0)
        return Made(config, model, make_team_env(config.env, 32, **config.env_config))

    return build
