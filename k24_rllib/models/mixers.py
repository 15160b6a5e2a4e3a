"""Mixers: from the chosen action values of a team's agents to the values that the TD loss compares.

A mixer is an `nn.Module` made by a factory `(num_agents, state_dim, *, options)`, options having defaults. It maps the
agents' values `[..., N]` and states `[..., S]` to `[..., K]`.

Shapes: `N` agents, `S` state size, `E` embedding size, `K` values per step (1 for a joint value, `N` for independent
learners); `...` stands for any leading dimensions, so that all time steps of a batch are mixed at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from k24_rllib.registry import Registry

MIXERS = Registry("mixer", given=("num_agents", "state_dim"), product=nn.Module)
"""Mixers by name."""


class QMixer(nn.Module):
    """QMIX's monotonic mixing network (arXiv 1803.11485, section 4.1): dQ_tot / dQ_a >= 0 for every agent.

    Hypernetworks map the state to the mixing weights, whose absolute values are taken.

    Args:
        num_agents: `N`.
        state_dim: `S`.
        embed_dim: `E`, width of the mixing layer; wider mixes more finely and costs more.
        hypernet_dim: Hidden width of the hypernetworks.
        init_scale: Factor on the initial weights of the hypernetworks' last layers; small ones start nearly flat.
    """

    def __init__(
        self,
        num_agents: int,
        state_dim: int,
        *,
        embed_dim: int = 32,
        hypernet_dim: int = 64,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_agents = num_agents
        self.embed_dim = embed_dim

        # The first layers of all four hypernetworks as one product: for w1, w2, b2 (which pass a ReLU) and b1.
        self._hidden_sizes = [hypernet_dim, hypernet_dim, embed_dim]
        self.hyper_in = nn.Linear(state_dim, sum(self._hidden_sizes) + embed_dim)
        self.hyper_w1 = nn.Linear(hypernet_dim, num_agents * embed_dim)
        self.hyper_w2 = nn.Linear(hypernet_dim, embed_dim)
        self.hyper_b2 = nn.Linear(embed_dim, 1)
        with torch.no_grad():
            last_b1 = (self.hyper_in.weight[-embed_dim:], self.hyper_in.bias[-embed_dim:])
            last = [p for layer in (self.hyper_w1, self.hyper_w2, self.hyper_b2) for p in layer.parameters()]
            for parameter in (*last, *last_b1):
                parameter.mul_(init_scale)

    def forward(self, agent_q: Tensor, state: Tensor) -> Tensor:
        """Mixes chosen values.

        Args:
            agent_q: `[..., N]`.
            state: `[..., S]`.

        Returns:
            The joint value `[..., 1]`.
        """
        before_relu, b1 = self.hyper_in(state).tensor_split([sum(self._hidden_sizes)], -1)
        for_w1, for_w2, for_b2 = before_relu.relu().split(self._hidden_sizes, -1)
        w1 = self.hyper_w1(for_w1).abs().unflatten(-1, (self.num_agents, self.embed_dim))  # [..., N, E]
        hidden = (agent_q.unsqueeze(-1) * w1).sum(-2) + b1  # [..., E]
        hidden = nn.functional.elu(hidden)
        mixed = (hidden * self.hyper_w2(for_w2).abs()).sum(-1, keepdim=True)
        joint: Tensor = mixed + self.hyper_b2(for_b2)
        return joint


class VDNMixer(nn.Module):
    """Value decomposition (arXiv 1706.05296): the joint value is the sum of the agents' values."""

    def __init__(self, num_agents: int, state_dim: int) -> None:
        super().__init__()

    def forward(self, agent_q: Tensor, state: Tensor) -> Tensor:
        """Returns `[..., 1]` for `agent_q [..., N]`; the state is not used."""
        return agent_q.sum(-1, keepdim=True)


class IndependentMixer(nn.Module):
    """No mixing: each agent's value learns from the team reward on its own."""

    def __init__(self, num_agents: int, state_dim: int) -> None:
        super().__init__()

    def forward(self, agent_q: Tensor, state: Tensor) -> Tensor:
        """Returns `agent_q [..., N]` as it is; the state is not used."""
        return agent_q


MIXERS.register("qmix", QMixer)
MIXERS.register("vdn", VDNMixer)
MIXERS.register("independent", IndependentMixer)
