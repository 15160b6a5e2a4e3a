"""The agent that remembers: a masked layer, a GRU and three more masked layers.

Shapes: `A` mask owners, `T` time steps, `R` rows of an owner, `I` input size, `H` hidden size, `U` actions.
"""

from __future__ import annotations

from torch import Tensor, nn

from k24_rllib.models.agent import AGENTS, Agent, AgentWeights, LayerFactory, Stage, through_layers
from k24_rllib.models.gru import GRU, IndependentGRU
from k24_rllib.sparsity import MaskedLayer


class GRUAgent(Agent):
    """`fc1 -> ReLU -> GRU -> fc2 -> ReLU -> fc3 -> ReLU -> fc4`, needed where one observation does not tell everything.

    The architecture is 1R3 of Kaleidoscope (arXiv 2410.08540): one layer before the recurrent cell, three after it.
    The GRU is dense and shared by all owners; where layers share nothing, each owner has one of its own.

    Args:
        input_dim: `I`: observation, agent id and last action, whichever are on.
        num_actions: `U`.
        num_owners: `A`.
        make_layer: Makes each fully connected layer; see `LayerFactory`.
        hidden_dim: `H`; more hidden units represent more and cost quadratically more.
        compiled: Whether compiled kernels may compute the recurrence, see `GRU`.
    """

    def __init__(
        self,
        input_dim: int,
        num_actions: int,
        num_owners: int,
        make_layer: LayerFactory,
        *,
        hidden_dim: int = 64,
        compiled: bool = True,
    ) -> None:
        super().__init__(num_owners)
        self.hidden_dim = hidden_dim
        self.fc1 = make_layer(input_dim, hidden_dim)
        self.middle: GRU | IndependentGRU
        if self.fc1.shares_weights:
            self.middle = GRU(hidden_dim, hidden_dim, compiled)
        else:
            self.middle = IndependentGRU(hidden_dim, hidden_dim, num_owners, compiled)
        self.fc2 = make_layer(hidden_dim, hidden_dim)
        self.fc3 = make_layer(hidden_dim, hidden_dim)
        self.fc4 = make_layer(hidden_dim, num_actions)

    def layers(self) -> list[MaskedLayer]:
        """Returns the fully connected layers, from input to output."""
        return [self.fc1, self.fc2, self.fc3, self.fc4]

    def stages(self) -> list[Stage]:
        """Returns the layers and the GRU, in order."""
        first, *rest = (Stage(f"fc{i}", layer, i < 4) for i, layer in enumerate(self.layers(), 1))
        return [first, Stage("middle", self.middle), *rest]

    def owned_modules(self) -> list[nn.Module]:
        """Returns the owners' own GRUs, if they have any."""
        return [self.middle] if isinstance(self.middle, IndependentGRU) else []

    def initial_hidden(self, groups: int, rows: int) -> Tensor:
        """Returns zeros of `[A, R, H]`."""
        return self.fc1.weight.new_zeros(groups, rows, self.hidden_dim)

    def unroll(
        self, inputs: Tensor, hidden: Tensor, weights: AgentWeights, track: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs over time; see `Agent.unroll`."""
        owners, steps, rows, _ = inputs.shape
        (first, *rest), (made, *of_rest) = self.layers(), weights.layers
        x = first(inputs.reshape(owners, steps * rows, -1), made, track).relu_()
        states, hidden = self.middle.unroll(x.view(owners, steps, rows, -1), hidden)
        q = through_layers(rest, of_rest, states.reshape(owners, steps * rows, -1), track)
        return q.view(owners, steps, rows, -1), hidden


AGENTS.register("gru", GRUAgent)
