"""The arithmetic floor of an update: its matrix products and nothing else.

An update of a recurrent team multiplies matrices in two forward passes (online and target network) and one backward
pass, of agents and mixer. Here these products run alone, with every operand and result allocated beforehand; the GRU's
products of one step after the other, as each needs the one before. No bias, no activation, no mask, no optimizer.

Shapes: `T` steps of an episode, `B` episodes, `N` agents, `R = N * B` rows, `J`/`I` out/in features of a layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.team import BATCH_EPISODES, EPISODE_STEPS
from k24_rllib.kernels import matmul_precision
from k24_rllib.models import GRUAgent, TeamModel
from k24_rllib.models.gru import GRU

Product = tuple[Tensor, Tensor, Tensor]
"""Left, right, result."""


class Floor:
    """The products of one update of a model, in the order an update needs them.

    Args:
        model: Tells the sizes.
        owners: Weights that the agents' layers have: 1, shared by all as in dense QMIX, where a layer is one product
            over all rows; or one for each agent as in K-2:4, where it is a batched product of as many operations.
    """

    def __init__(self, model: TeamModel, owners: int = 1) -> None:
        torch.manual_seed(0)
        self._owners = owners
        self._rows = model.num_agents * BATCH_EPISODES
        forward, backward = self._agent_products(model)
        mixer_forward, mixer_backward = self._mixer_products(model)
        once = [*forward, *mixer_forward]
        self.products: list[Product] = [*once, *once, *mixer_backward, *backward]

    @torch.no_grad()
    def run(self) -> None:
        """Computes every product once."""
        for left, right, result in self.products:
            (torch.mm if left.dim() == 2 else torch.bmm)(left, right, out=result)

    def under(self, precision: str) -> Callable[[], None]:
        """Returns what computes every product once, under a precision of its own."""

        def run() -> None:
            with matmul_precision(precision):
                self.run()

        return run

    def operations(self) -> int:
        """Returns the floating point operations, a multiplication and an addition for each pair of numbers."""
        return sum(2 * result.numel() * left.shape[-1] for left, _, result in self.products)

    def _agent_products(self, model: TeamModel) -> tuple[list[Product], list[Product]]:
        agent = model.agent
        assert isinstance(agent, GRUAgent), "the floor is that of recurrent agents"
        assert isinstance(agent.middle, GRU), "the floor is that of a GRU that all share"
        before, *after = agent.layers()
        rows = (EPISODE_STEPS + 1) * self._rows  # values of the last observation too: the target bootstraps from it
        first = self._layer(rows, before.weight, learns_input=False)
        middle = self._gru(agent.middle)
        rest = [self._layer(rows, layer.weight) for layer in after]
        passes = [first, middle, *rest]
        return (
            [product for forward, _ in passes for product in forward],
            [product for _, backward in reversed(passes) for product in backward],
        )

    def _mixer_products(self, model: TeamModel) -> tuple[list[Product], list[Product]]:
        """Returns the products of the hypernetworks; the first one's inputs are states, which need no gradient."""
        layers = [layer for layer in model.mixer.modules() if isinstance(layer, nn.Linear)]
        rows = EPISODE_STEPS * BATCH_EPISODES
        passes = [
            self._layer(rows, layer.weight, learns_input=place > 0, owners=1) for place, layer in enumerate(layers)
        ]
        return (
            [product for forward, _ in passes for product in forward],
            [product for _, backward in reversed(passes) for product in backward],
        )

    def _layer(
        self, rows: int, like: Tensor, learns_input: bool = True, owners: int | None = None
    ) -> tuple[list[Product], list[Product]]:
        """Returns a linear layer's products forward, and backward for its weight and, if that learns, its input.

        Args:
            rows: Rows that the layer sees, of all owners.
            like: A weight `[..., J, I]` of the layer's size.
            learns_input: Whether its input has a gradient.
            owners: Weights that the rows are parted between; None takes those of the agents.
        """
        out_features, in_features = like.shape[-2:]
        groups = self._owners if owners is None else owners
        lead = () if groups == 1 else (groups,)
        x, grad = (torch.randn(*lead, rows // groups, size) for size in (in_features, out_features))
        weight = torch.randn(*lead, out_features, in_features)
        backward = [(grad.mT, x, torch.empty_like(weight))]
        if learns_input:
            backward.append((grad, weight, torch.empty_like(x)))
        return [(x, weight.mT, torch.empty_like(grad))], backward

    def _gru(self, gru: GRU) -> tuple[list[Product], list[Product]]:
        """Returns the products of a GRU that all agents share: inputs at once, states step by step."""
        size = gru.hidden_size
        steps = EPISODE_STEPS + 1
        forward, backward = self._layer(steps * self._rows, torch.empty(3 * size, gru.input_size), owners=1)
        states, gates, grads = (torch.randn(steps, self._rows, width * size) for width in (1, 3, 3))
        weight, grad_states = torch.randn(3 * size, size), torch.empty_like(states)
        each_step = zip(states, gates, grads, grad_states, strict=True)
        by_step = [((state, weight.mT, gate), (grad, weight, result)) for state, gate, grad, result in each_step]
        forward += [there for there, _ in by_step]
        into_weight = (grads.view(-1, 3 * size).mT, states.view(-1, size), torch.empty_like(weight))
        return forward, [back for _, back in reversed(by_step)] + [into_weight, *backward]
