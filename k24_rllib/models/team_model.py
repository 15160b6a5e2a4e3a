"""The team's agents and their mixer as one RLlib model, known to RLlib's catalogue as `k24_rnn`.

One row of a batch is one team: RLlib sees a single policy whose observation holds all agents' observations and whose
action has one component per agent, so that nothing about grouping agents is left to the user.

Shapes: `A` mask owners, `N` agents, `B` rows (teams: episodes or environment copies), `T` time steps, `R` rows of an
owner, `O` observation size, `S` state size, `I` input size, `M` numbers that an agent remembers, `U` actions, `K`
values per step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.models import ModelCatalog
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.policy.view_requirement import ViewRequirement
from torch import Tensor, nn

from k24_rllib.checks import ConfigError
from k24_rllib.models.agent import AGENTS, Agent, AgentWeights, LayerFactory, agent_inputs
from k24_rllib.models.mixers import MIXERS
from k24_rllib.models.owners import OwnerGroups
from k24_rllib.registry import Part, Registry
from k24_rllib.sparsity import LAYERS, MaskedLayer

MODEL_NAME = "k24_rnn"
UNAVAILABLE = -1e9
"""Value of an action that cannot be taken: finite, so that no arithmetic on it gives NaN."""


def make_agent(options: Mapping[str, Any], input_dim: int, num_actions: int, num_owners: int) -> Agent:
    """Makes the agents' network of a model's options; see `TeamModel`."""
    make_layer = layer_factory(_part(LAYERS, options), num_owners, options.get("owner_scale", False))
    agent: Agent = _part(AGENTS, options).make(input_dim, num_actions, num_owners, make_layer)
    return agent


def layer_factory(layer: Part, num_masks: int, owner_scale: bool = False) -> LayerFactory:
    """Returns what makes the agents' fully connected layers of a kind for `A = num_masks` owners.

    `owner_scale` gives each owner a gain and a bias of its own in every layer.
    """

    def make_layer(in_features: int, out_features: int) -> MaskedLayer:
        made: MaskedLayer = layer.make(in_features, out_features, num_masks)
        if owner_scale:
            made.add_owner_scale()
        return made

    return make_layer


def make_mixer(options: Mapping[str, Any], num_agents: int, state_dim: int) -> nn.Module:
    """Makes the mixer of a model's options; see `TeamModel`."""
    mixer: nn.Module = _part(MIXERS, options).make(num_agents, state_dim)
    return mixer


def _part(registry: Registry, options: Mapping[str, Any]) -> Part:
    """Returns the part that a model's options hold, or name."""
    part = options.get(registry.kind)
    if part is None:
        raise ConfigError(f"custom_model_config: {registry.kind} is missing, expected one of {registry.names()}")
    return part if isinstance(part, Part) else registry.part(part, options.get(registry.options_key))


class TeamModel(TorchModelV2, nn.Module):
    """RLlib's view of an agents' network and a mixer.

    `custom_model_config` keys:

    - `agent`, `layer`, `mixer`: each a `Part`, as `QMixConfig` puts them there, or a registered name, with options in
      `agent_options`, `layer_options` and `mixer_options`
    - `agent_id` (on), `last_action` (off): what agents see beside their observations
    - `owner_scale` (off): whether each mask owner has a gain and a bias of its own beside each layer's weights

    The observation space is what `team_observation_space` returns, the action space one `Discrete(U)` per agent.

    Attributes:
        agent: The agents' network.
        mixer: Maps agents' values `[..., N]` and states `[..., S]` to `[..., K]`.
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
        self.num_owners = int(original["mask_ids"].high.max()) + 1
        self.agent_id: bool = options.get("agent_id", True)
        self.last_action: bool = options.get("last_action", False)
        input_dim = obs_dim + self.num_agents * self.agent_id + self.num_actions * self.last_action
        self.agent = make_agent(options, input_dim, self.num_actions, self.num_owners)
        self.state_dim = original["state"].shape[0]
        self.mixer = make_mixer(options, self.num_agents, self.state_dim)
        self._input_dim = input_dim
        if self.last_action:
            self.view_requirements[SampleBatch.PREV_ACTIONS] = ViewRequirement(
                SampleBatch.ACTIONS, space=action_space, shift=-1
            )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @torch.no_grad()
    def check_shapes(self) -> None:
        """Runs the network for two steps, to tell before training whether parts of the user's own fit.

        Raises:
            ConfigError: naming the agent or the mixer if what it gives has another shape than expected.
        """
        steps, teams = 2, 3
        inputs = torch.zeros(self.num_agents, steps, teams, self._input_dim, device=self.device)
        groups = self.groups(np.zeros((teams, self.num_agents), np.int64))
        hidden = self.initial_hidden(groups)
        q, after = self.agent.unroll(groups.gather(inputs), hidden, self.agent.weights(explore=False))
        rows = (groups.num_groups, steps, groups.rows, self.num_actions)
        _check_shape(f"{type(self.agent).__name__}.unroll: action values", q, [rows])
        _check_shape(f"{type(self.agent).__name__}.unroll: hidden", after, [tuple(hidden.shape)])
        zeros = [torch.zeros(steps, teams, size, device=self.device) for size in (self.num_agents, self.state_dim)]
        mixed = [(steps, teams, values) for values in dict.fromkeys((1, self.num_agents))]
        _check_shape(f"{type(self.mixer).__name__}.forward: joint values", self.mixer(*zeros), mixed)

    # --- over whole episodes

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

    def groups(self, mask_ids: NDArray[np.int64]) -> OwnerGroups:
        """Returns how rows are grouped where agent `n` of team `b` has owner `mask_ids[b, n]`, `[B, N]`.

        Make it once for an unroll, or for several of the same teams.

        Raises:
            ValueError: if an owner is none of `0 ... A - 1`.
        """
        if self.agent.tells_owners_apart:
            return OwnerGroups.by_owner(mask_ids, self.num_owners, self.device)
        return OwnerGroups.by_agent(self.num_agents, len(mask_ids))

    def initial_hidden(self, groups: OwnerGroups) -> Tensor:
        """Returns what agents remember before the first step, `[A, R, M]`."""
        return self.agent.initial_hidden(groups.num_groups, groups.rows)

    def unroll(
        self,
        inputs: Tensor,
        hidden: Tensor,
        weights: AgentWeights,
        groups: OwnerGroups,
        real: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Runs all agents over time, each with the weights of its owner.

        Args:
            inputs: `[N, T, B, I]`.
            hidden: `[A, R, M]`, from `initial_hidden` or the call before; it stays in the order of owners.
            weights: What `agent.weights` returned.
            groups: What `groups` returned.
            real: `[T, B]` bool, the steps that are not padding, given by the learner alone: masked layers then follow
                their inputs' scale (the moving average E of method step A).

        Returns:
            Action values `[N, T, B, U]` and the last hidden state `[A, R, M]`.
        """
        track = None if real is None else groups.track(real.to(inputs.dtype))
        q, hidden = self.agent.unroll(groups.gather(inputs), hidden, weights, track)
        return groups.scatter(q), hidden

    # --- RLlib's own calls

    def get_initial_state(self) -> list[Tensor]:
        """Returns what one team remembers, `[N * M]`, as RLlib's contract has it; an empty list without memory."""
        hidden = self.agent.initial_hidden(1, self.num_agents)
        return [hidden.reshape(-1)] if hidden.shape[-1] else []

    def forward(
        self, input_dict: dict[str, Any], state: list[Tensor], seq_lens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Action values for RLlib's own calls (`compute_single_action` and the like); the learner uses `unroll`.

        Args:
            input_dict: `obs` with `obs [B*T, N, O]`, `avail_actions [B*T, N, U]` and `mask_ids [B*T, N]`, of which
                a team's first count.
            state: One tensor `[B, N*M]`, or none.
            seq_lens: `[B]`, all `T`; None means `T = 1`.

        Returns:
            Action values `[B*T, N*U]`, `UNAVAILABLE` where an action cannot be taken, and the new state. Masks are the
            most likely ones; the rollout worker, not this call, explores.
        """
        observed = input_dict["obs"]
        total = observed["obs"].shape[0]
        rows = total if seq_lens is None else len(seq_lens)
        last_actions = input_dict[SampleBatch.PREV_ACTIONS].long() if self.last_action else None
        inputs = self.agent_inputs(observed["obs"].float(), last_actions)  # [N, B*T, I]
        inputs = inputs.unflatten(1, (rows, total // max(rows, 1))).transpose(1, 2)  # [N, T, B, I]
        owners = observed["mask_ids"][:: total // max(rows, 1) or 1]  # [B, N]
        groups = self.groups(owners.long().cpu().numpy())
        hidden = self.initial_hidden(groups)
        if state:
            of_agents = state[0].view(rows, self.num_agents, -1).transpose(0, 1)  # [N, B, M]
            hidden = groups.gather(of_agents.unsqueeze(1)).squeeze(1)
        q, hidden = self.unroll(inputs, hidden, self.agent.weights(explore=False), groups)
        q = q.permute(2, 1, 0, 3).reshape(total, self.num_agents, self.num_actions)
        q = q.masked_fill(observed["avail_actions"] < 0.5, UNAVAILABLE)
        of_agents = groups.scatter(hidden.unsqueeze(1)).squeeze(1)
        return q.flatten(1), [of_agents.transpose(0, 1).reshape(rows, -1)] if state else []


def _check_shape(what: str, given: Any, expected: Sequence[tuple[int, ...]]) -> None:
    shape = tuple(given.shape) if isinstance(given, Tensor) else None
    if shape not in expected:
        got = f"shape {list(shape)}" if shape is not None else type(given).__name__
        raise ConfigError(f"{what}: got {got}, expected {' or '.join(str(list(each)) for each in expected)}")


def team_observation_space(
    obs_dim: int, state_dim: int, num_actions: int, num_agents: int, num_mask_owners: int
) -> gym.spaces.Dict:
    """Returns the space of one team's observation, which tells the model every size it needs.

    Args:
        obs_dim: `O`.
        state_dim: `S`.
        num_actions: `U`.
        num_agents: `N`.
        num_mask_owners: `A`.

    Returns:
        A dict of `obs [N, O]`, `avail_actions [N, U]` (0 or 1), `state [S]` and `mask_ids [N]` (0 to `A - 1`, the mask
        owner of each agent), all float32.
    """
    return gym.spaces.Dict(
        {
            "obs": gym.spaces.Box(-np.inf, np.inf, (num_agents, obs_dim), np.float32),
            "avail_actions": gym.spaces.Box(0.0, 1.0, (num_agents, num_actions), np.float32),
            "state": gym.spaces.Box(-np.inf, np.inf, (state_dim,), np.float32),
            "mask_ids": gym.spaces.Box(0.0, num_mask_owners - 1.0, (num_agents,), np.float32),
        }
    )


def register_models() -> None:
    """Makes `k24_rnn` known to RLlib's model catalogue; safe to call again."""
    ModelCatalog.register_custom_model(MODEL_NAME, TeamModel)
