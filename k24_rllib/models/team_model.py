"""The team's agents and their mixer as one RLlib model, known to RLlib's catalogue as `k24_rnn`.

One row of a batch is one team: RLlib sees a single policy whose observation holds all agents' observations and whose
action has one component per agent, so that nothing about grouping agents is left to the user.

Shapes: `N` agents, `B` rows (teams), `T` time steps, `O` observation size, `S` state size, `H` hidden size,
`U` actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.models import ModelCatalog
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.policy.view_requirement import ViewRequirement
from torch import Tensor, nn

from k24_rllib.checks import check_choice
from k24_rllib.models.agent import LayerFactory, TeamAgent, agent_inputs
from k24_rllib.models.mixers import make_mixer
from k24_rllib.sparsity import (
    NM_RATIOS,
    DenseLinear,
    IndependentLinear,
    KaleidoscopeLinear,
    MaskedLayer,
    SemiStructuredLinear,
)

MODEL_NAME = "k24_rnn"
LAYERS: dict[str, Callable[..., MaskedLayer]] = {
    "dense": DenseLinear,
    "independent": IndependentLinear,
    "kaleidoscope": KaleidoscopeLinear,
    **{ratio: partial(SemiStructuredLinear, n=n, m=m) for ratio, (n, m) in NM_RATIOS.items()},
}
"""The agents' fully connected layers by name."""
UNAVAILABLE = -1e9
"""Value of an action that cannot be taken: finite, so that no arithmetic on it gives NaN."""


def layer_factory(kind: str, num_masks: int, options: dict[str, Any] | None = None) -> LayerFactory:
    """Returns what makes the agents' fully connected layers.

    Args:
        kind: `"dense"` (shared weights), `"independent"` (every owner has weights of its own), a ratio such as `"2:4"`
            (every owner keeps its own 2 of every 4) or `"kaleidoscope"` (every owner prunes below its own thresholds).
        num_masks: Number of mask owners, `A`.
        options: Further arguments of the layer.
    """
    return partial(LAYERS[check_choice("layer", kind, LAYERS)], num_masks=num_masks, **(options or {}))


class TeamRNNModel(TorchModelV2, nn.Module):
    """RLlib's view of `TeamAgent` and a mixer.

    `custom_model_config` keys: `layer` and `layer_options` (see `layer_factory`), `hidden_dim`, `recurrent`,
    `compile_kernels`, `agent_id`, `last_action`, `mixer`, `mixing_embed_dim`, `hypernet_dim`, `mixer_init_scale`.

    The observation space is what `team_observation_space` returns, the action space one `Discrete(U)` per agent.
    """

    view_requirements: dict[str, ViewRequirement]

    def __init__(
        self,
        obs_space: gym.Space,
        action_space: gym.Space,
        num_outputs: int,
        model_config: dict[str, Any],
        name: str,
        **options: Any,
    ) -> None:
        TorchModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name)
        nn.Module.__init__(self)
        original: Any = getattr(obs_space, "original_space", obs_space)
        self.num_agents, obs_dim = original["obs"].shape
        self.num_actions = original["avail_actions"].shape[1]
        self.agent_id: bool = options.get("agent_id", True)
        self.last_action: bool = options.get("last_action", False)
        input_dim = obs_dim + self.num_agents * self.agent_id + self.num_actions * self.last_action
        mask_ids = [int(owner) for owner in original["mask_ids"].low]
        factory = layer_factory(options.get("layer", "2:4"), max(mask_ids) + 1, options.get("layer_options"))
        self.agent = TeamAgent(
            input_dim,
            self.num_actions,
            mask_ids,
            factory,
            options.get("hidden_dim", 64),
            options.get("recurrent", True),
            options.get("compile_kernels", True),
        )
        self.mixer = make_mixer(
            options.get("mixer", "qmix"),
            self.num_agents,
            original["state"].shape[0],
            embed_dim=options.get("mixing_embed_dim", 32),
            hypernet_dim=options.get("hypernet_dim", 64),
            init_scale=options.get("mixer_init_scale", 1.0),
        )
        if self.last_action:
            self.view_requirements[SampleBatch.PREV_ACTIONS] = ViewRequirement(
                SampleBatch.ACTIONS, space=action_space, shift=-1
            )

    def get_initial_state(self) -> list[Tensor]:
        """Returns one team's hidden state, `[N * H]`, as RLlib's contract has it; nothing without recurrence."""
        if not self.agent.recurrent:
            return []
        return [self.agent.initial_hidden(1).reshape(-1)]

    def forward(
        self, input_dict: dict[str, Any], state: list[Tensor], seq_lens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Action values for RLlib's own calls (`compute_single_action` and the like); the learner uses `unroll`.

        Args:
            input_dict: `obs` with `obs [B*T, N, O]` and `avail_actions [B*T, N, U]`.
            state: One tensor `[B, N*H]`, or none.
            seq_lens: `[B]`, all `T`; None means `T = 1`.

        Returns:
            Action values `[B*T, N*U]`, `UNAVAILABLE` where an action cannot be taken, and the new state. Masks are the
            most likely ones; the rollout worker, not this call, explores.
        """
        obs, avail = input_dict["obs"]["obs"], input_dict["obs"]["avail_actions"]
        total = obs.shape[0]
        rows = total if seq_lens is None else len(seq_lens)
        last_actions = input_dict[SampleBatch.PREV_ACTIONS].long() if self.last_action else None
        inputs = self.agent_inputs(obs.float(), last_actions)  # [N, B*T, I]
        inputs = inputs.unflatten(1, (rows, total // max(rows, 1))).transpose(1, 2)  # [N, T, B, I]
        hidden = self.agent.initial_hidden(rows)
        if state:
            hidden = state[0].view(rows, self.num_agents, -1).transpose(0, 1)
        q, hidden = self.agent.unroll(inputs, hidden, self.agent.agent_weights(explore=False))
        q = q.permute(2, 1, 0, 3).reshape(total, self.num_agents, self.num_actions)
        q = q.masked_fill(avail < 0.5, UNAVAILABLE)
        return q.flatten(1), [hidden.transpose(0, 1).reshape(rows, -1)] if state else []

    def agent_inputs(self, obs: Tensor, last_actions: Tensor | None = None) -> Tensor:
        """Returns the agents' inputs `[N, ..., I]` for `obs [..., N, O]` and, if used, `last_actions [..., N]`."""
        if self.last_action and last_actions is None:
            last_actions = torch.full(obs.shape[:-1], -1, dtype=torch.int64, device=obs.device)
        return agent_inputs(
            obs,
            last_actions if self.last_action else None,
            agent_id=self.agent_id,
            num_actions=self.num_actions,
        )


def team_observation_space(obs_dim: int, state_dim: int, num_actions: int, mask_ids: Sequence[int]) -> gym.spaces.Dict:
    """Returns the space of one team's observation, which tells the model every size it needs.

    Args:
        obs_dim: `O`.
        state_dim: `S`.
        num_actions: `U`.
        mask_ids: Mask owner of each agent, `N` numbers; they are the bounds of the space's `mask_ids`.

    Returns:
        A dict of `obs [N, O]`, `avail_actions [N, U]` (0 or 1), `state [S]` and `mask_ids [N]`.
    """
    agents = len(mask_ids)
    owners = np.asarray(mask_ids, np.float32)
    return gym.spaces.Dict(
        {
            "obs": gym.spaces.Box(-np.inf, np.inf, (agents, obs_dim), np.float32),
            "avail_actions": gym.spaces.Box(0.0, 1.0, (agents, num_actions), np.float32),
            "state": gym.spaces.Box(-np.inf, np.inf, (state_dim,), np.float32),
            "mask_ids": gym.spaces.Box(owners, owners, dtype=np.float32),
        }
    )


def register_models() -> None:
    """Makes `k24_rnn` known to RLlib's model catalogue; safe to call again."""
    ModelCatalog.register_custom_model(MODEL_NAME, TeamRNNModel)
