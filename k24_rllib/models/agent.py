"""What an agent network is to the rest of the package: the action values of all agents of a team, and their weights.

Shapes: `A` mask owners, `N` agents, `B` episodes or environment copies, `T` time steps, `R` rows of an owner, `I` input
size, `M` numbers of memory, `U` actions. Inside an agent everything is owner-major, `[A, T, R, features]`: see
`owners.py` on which rows an owner has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from k24_rllib.checks import ConfigError
from k24_rllib.registry import Registry
from k24_rllib.sparsity import JointWeights, LayerWeights, MaskedLayer, Memory

Layer = TypeVar("Layer", bound=MaskedLayer)
LayerFactory = Callable[[int, int], MaskedLayer]
"""Makes a layer from its input and output features; the number of mask owners is bound by whoever makes it."""


@dataclass(frozen=True, slots=True)
class AgentWeights:
    """The weights of all masked layers for one unroll, and what they were drawn from."""

    layers: list[LayerWeights]  # from input to output
    probs: Tensor | None = None  # of all masks together, with gradient, where one pass made them; see `JointWeights`


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the modules that make an agent's values of its inputs, one after the other."""

    name: str  # as in the agent
    module: nn.Module  # a masked layer, a `GRU` or an `IndependentGRU`
    relu: bool = False  # whether negative outputs become 0


class Agent(nn.Module, ABC):
    """A network with masked layers that gives action values to the rows of each mask owner.

    A subclass writes `layers`, `initial_hidden` and `unroll`, and nobody else knows what it is made of. Its constructor
    is a factory `(input_dim, num_actions, num_owners, make_layer, *, options)`: `make_layer(in_features, out_features)`
    makes a masked layer, and options have defaults. The two here are `GRUAgent` and `FeedforwardAgent`.

    Args:
        num_owners: `A`.
    """

    def __init__(self, num_owners: int) -> None:
        super().__init__()
        self.num_owners = num_owners
        self._joint: JointWeights | None = None
        self._asked_for_joint = False

    @abstractmethod
    def layers(self) -> list[MaskedLayer]:
        """Returns the layers that owners mask, from input to output."""

    @abstractmethod
    def initial_hidden(self, groups: int, rows: int) -> Tensor:
        """Returns what agents remember before the first step, `[A, R, M]`, the same for every row.

        An agent without memory has `M = 0`. One that remembers several things, or something of more dimensions, packs
        all of it into `M` numbers.

        Args:
            groups: `A`, or another number of groups where all owners have the same weights.
            rows: `R`.
        """

    @abstractmethod
    def unroll(
        self, inputs: Tensor, hidden: Tensor, weights: AgentWeights, track: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs over time. No row may depend on another.

        Args:
            inputs: `[A, T, R, I]`, the rows of each owner.
            hidden: `[A, R, M]`, what agents remember before the first step.
            weights: What `weights` returned; entry `i` of its layers goes to layer `i` of `layers()`.
            track: `[A, T * R]`, 1 for rows that are real and 0 for padding, to be handed to every masked layer; given
                by the learner alone. See `MaskedLayer.forward`.

        Returns:
            Action values `[A, T, R, U]` and what agents remember after the last step, `[A, R, M]`.
        """

    def owned_modules(self) -> list[nn.Module]:
        """Returns the modules beside masked layers that hold numbers of each owner's own, such as a cell for each."""
        return []

    def stages(self) -> list[Stage]:
        """Returns what values are made by, from input to output, so that the agent can act without its class.

        Raises:
            ConfigError: here; an agent that is a row of layers and GRUs overrides it.
        """
        raise ConfigError(
            f"agent {type(self).__name__}: can't be exported: its class has no `stages`, which say what it is made of; "
            "expected gru, feedforward or an agent that has"
        )

    @property
    def tells_owners_apart(self) -> bool:
        """Whether it matters to which owner a row belongs; it does not where all weights are the same for all."""
        return any(layer.tells_owners_apart for layer in self.layers()) or bool(self.owned_modules())

    def layers_of(self, kind: type[Layer]) -> list[Layer]:
        """Returns those of `layers()` that are of a class, from input to output."""
        return [layer for layer in self.layers() if isinstance(layer, kind)]

    @property
    def joint(self) -> JointWeights | None:
        """What makes the weights of all layers in one pass; None where they are of different kinds or have no such."""
        if not self._asked_for_joint:  # here, as only now a subclass has all of its layers
            layers = self.layers()
            kinds = {type(layer) for layer in layers}
            self._joint = kinds.pop().joint(layers) if len(kinds) == 1 else None
            self._asked_for_joint = True
        return self._joint

    def weights(self, explore: bool) -> AgentWeights:
        """Returns the weights of each layer: one draw of masks per owner where `explore` is set.

        Call it once per unroll and hand the result to `unroll`.
        """
        layers, joint = self.layers(), self.joint
        if joint is None:
            return AgentWeights([layer.make_weights(explore) for layer in layers])
        return AgentWeights(*joint.make_weights(layers, explore))

    def memory(self) -> Memory:
        """Returns the memory that acting needs: that of masked layers, and every other parameter, shared or owned."""
        total = Memory.shared(0)
        for layer in self.layers():
            total += layer.memory()
            if layer.owner_gain is not None:
                total += Memory.owned(2 * layer.out_features, self.num_owners)
        owned = {p for module in self.owned_modules() for p in module.parameters()}
        masked = {p for layer in self.layers() for p in layer.parameters()}
        shared = set(self.parameters()) - owned - masked
        total += Memory.owned(sum(p.numel() for p in owned) // self.num_owners, self.num_owners)
        return total + Memory.shared(sum(p.numel() for p in shared))


def through_layers(
    layers: Sequence[MaskedLayer], made: Sequence[LayerWeights], x: Tensor, track: Tensor | None
) -> Tensor:
    """Returns what layers make of `x [A, rows, I]`, with a ReLU between two of them; `track` as in `Agent.unroll`."""
    for place, (layer, its) in enumerate(zip(layers, made, strict=True)):
        x = layer(x if place == 0 else x.relu_(), its, track)
    return x


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


AGENTS = Registry("agent", given=("input_dim", "num_actions", "num_owners", "make_layer"), product=Agent)
"""Agents' architectures by name."""
