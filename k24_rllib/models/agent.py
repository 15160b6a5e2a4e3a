"""The agents of a team as one network: 1R3, a masked layer, a GRU and three more masked layers.

Shapes: `A` mask owners, `N` agents, `B` rows per agent (episodes or environment copies), `T` time steps, `O`
observation size, `H` hidden size, `U` actions, `I`/`J` in/out features of a layer. Everything inside the network is
agent-major, `[N, rows, features]`, because each agent multiplies by the weights of its own mask owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from k24_rllib.models.gru import GRU, IndependentGRU
from k24_rllib.sparsity import (
    IndependentLinear,
    JointPatterns,
    KaleidoscopeLinear,
    MaskedLayer,
    SemiStructuredLinear,
    Storage,
)

LayerFactory = Callable[[int, int], MaskedLayer]
"""Makes a layer from its input and output features; the number of mask owners is bound by whoever makes it."""


@dataclass(frozen=True, slots=True)
class AgentWeights:
    """The weights of all masked layers for one unroll."""

    layers: list[Tensor]  # [N, J, I] each, from input to output
    probs: Tensor | None = None  # [P, A, K], what 2:4 masks were drawn from, with gradient; see `JointPatterns`


class TeamAgent(nn.Module):
    """Action values of every agent of a team: `fc1 -> ReLU -> GRU -> fc2 -> ReLU -> fc3 -> ReLU -> fc4`.

    The architecture is 1R3 of Kaleidoscope (arXiv 2410.08540): one layer before the recurrent cell, three after it.
    The GRU is dense and shared by all owners, unless layers share nothing either (`IndependentLinear`): then each owner
    has one of its own. With `recurrent=False` another masked layer takes its place.

    Args:
        input_dim: `I` of the first layer: observation, agent id and last action, whichever are on.
        num_actions: `U`.
        mask_ids: Mask owner of each agent, `N` numbers below the owners' number; several agents may share an owner.
        make_layer: Makes each fully connected layer; see `LayerFactory`.
        hidden_dim: `H`; more hidden units represent more and cost quadratically more.
        recurrent: Whether agents remember (needed as soon as one observation does not tell everything).
        compiled: Whether compiled kernels may compute the recurrence, see `GRU`.
    """

    mask_ids: Tensor

    def __init__(
        self,
        input_dim: int,
        num_actions: int,
        mask_ids: Sequence[int],
        make_layer: LayerFactory,
        hidden_dim: int = 64,
        recurrent: bool = True,
        compiled: bool = True,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.num_agents = len(mask_ids)
        self.hidden_dim = hidden_dim
        self.recurrent = recurrent
        owners = torch.as_tensor(mask_ids, dtype=torch.int64)
        self._one_owner_each = bool(torch.equal(owners, torch.arange(int(owners.max()) + 1)))
        self.register_buffer("mask_ids", owners, persistent=False)
        self.fc1 = make_layer(input_dim, hidden_dim)
        self.middle: GRU | IndependentGRU | MaskedLayer
        if not recurrent:
            self.middle = make_layer(hidden_dim, hidden_dim)
        elif isinstance(self.fc1, IndependentLinear):
            self.middle = IndependentGRU(hidden_dim, hidden_dim, owners.tolist(), compiled)
        else:
            self.middle = GRU(hidden_dim, hidden_dim, compiled)
        self.fc2 = make_layer(hidden_dim, hidden_dim)
        self.fc3 = make_layer(hidden_dim, hidden_dim)
        self.fc4 = make_layer(hidden_dim, num_actions)
        self.joint = JointPatterns(masked) if (masked := self.semi_structured_layers()) else None

    def layers(self) -> list[MaskedLayer]:
        """Returns the layers that owners mask, from input to output."""
        middle = [self.middle] if isinstance(self.middle, MaskedLayer) else []
        return [self.fc1, *middle, self.fc2, self.fc3, self.fc4]

    def semi_structured_layers(self) -> list[SemiStructuredLinear]:
        """Returns the 2:4 layers, from input to output: all of `layers()` or none."""
        return [layer for layer in self.layers() if isinstance(layer, SemiStructuredLinear)]

    def kaleidoscope_layers(self) -> list[KaleidoscopeLinear]:
        """Returns Kaleidoscope's layers, from input to output: all of `layers()` or none."""
        return [layer for layer in self.layers() if isinstance(layer, KaleidoscopeLinear)]

    def storage(self) -> Storage:
        """Returns what acting needs of all layers and the recurrent cell."""
        total = Storage.shared(0)
        for layer in self.layers():
            total += layer.storage()
        if isinstance(self.middle, MaskedLayer):
            return total
        numbers = sum(parameter.numel() for parameter in self.middle.parameters())
        if isinstance(self.middle, IndependentGRU):
            owners = len(self.middle.cells)
            return total + Storage.owned(numbers // owners, owners)
        return total + Storage.shared(numbers)

    def agent_weights(self, explore: bool) -> AgentWeights:
        """Returns the weights of each layer for each agent: one draw per owner where `explore` is set.

        Call it once per unroll and hand the result to `unroll`.
        """
        probs = None
        masked = self.semi_structured_layers()
        if self.joint is None or any(layer.frozen for layer in masked):
            owner_weights = [layer.weights(explore) for layer in self.layers()]
        else:
            owner_weights, probs = self.joint.weights(masked, explore)
        if not self._one_owner_each:
            owner_weights = [weights.index_select(0, self.mask_ids) for weights in owner_weights]
        return AgentWeights(owner_weights, probs)

    def initial_hidden(self, rows: int) -> Tensor:
        """Returns the hidden state before the first step, zeros of `[N, B, H]` (`[N, B, 0]` without recurrence)."""
        size = self.hidden_dim if self.recurrent else 0
        return self.fc1.bias.new_zeros(self.num_agents, rows, size)

    def unroll(
        self, inputs: Tensor, hidden: Tensor, weights: AgentWeights, real: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs the agents over time.

        Args:
            inputs: `[N, T, B, I]`.
            hidden: `[N, B, H]`, the state before the first step.
            weights: What `agent_weights` returned.
            real: `[T, B]` bool, the steps that are not padding, given by the learner alone: the masked layers then
                follow their inputs' scale (the moving average E of method step A).

        Returns:
            Action values `[N, T, B, U]` and the last hidden state `[N, B, H]`.
        """
        agents, steps, rows, _ = inputs.shape
        track = None
        if real is not None:  # as numbers and in one piece, which every layer would otherwise make of it
            track = real.to(inputs.dtype).reshape(1, -1).expand(agents, -1).contiguous()  # [N, T*B]
        owners = None if self._one_owner_each else self.mask_ids
        weight_of = dict(zip(self.layers(), weights.layers, strict=True))

        def apply(layer: MaskedLayer, x: Tensor) -> Tensor:
            out: Tensor = layer(x, weight_of[layer], track=track, owners=owners)
            return out

        x = apply(self.fc1, inputs.reshape(agents, steps * rows, -1)).relu_()
        if isinstance(self.middle, MaskedLayer):
            x = apply(self.middle, x).relu_()
        else:
            states, hidden = self.middle.unroll(x.view(agents, steps, rows, -1), hidden)
            x = states.reshape(agents, steps * rows, -1)
        x = apply(self.fc2, x).relu_()
        x = apply(self.fc3, x).relu_()
        return apply(self.fc4, x).view(agents, steps, rows, -1), hidden


def agent_inputs(obs: Tensor, last_actions: Tensor | None, *, agent_id: bool, num_actions: int) -> Tensor:
    """Builds the network's inputs from what agents see.

    Args:
        obs: `[..., N, O]`.
        last_actions: `[..., N]` int64, each agent's previous action, -1 before the first step; None to leave it out.
        agent_id: Whether to append a one-hot agent id, which lets a shared network treat agents differently.
        num_actions: `U`.

    Returns:
        `[N, ..., I]`, agent-major, with `I = O + N [agent id] + U [last action]`.
    """
    agents, obs_dim = obs.shape[-2:]
    size = obs_dim + agents * agent_id + num_actions * (last_actions is not None)
    inputs = obs.new_empty(agents, *obs.shape[:-2], size)  # filled in place: agent-major in one copy
    inputs[..., :obs_dim].copy_(obs.movedim(-2, 0))
    if agent_id:
        identity = torch.eye(agents, dtype=obs.dtype, device=obs.device)
        shape = (agents, *(1,) * (obs.dim() - 2), agents)
        inputs[..., obs_dim : obs_dim + agents].copy_(identity.view(shape).expand(*inputs.shape[:-1], -1))
    if last_actions is not None:
        one_hot = nn.functional.one_hot(last_actions + 1, num_actions + 1)[..., 1:]  # -1 becomes all zeros
        inputs[..., size - num_actions :].copy_(one_hot.movedim(-2, 0))
    return inputs
