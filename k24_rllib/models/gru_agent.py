"""The agent that remembers: a masked layer, a GRU and three more masked layers.

Shapes: `A` mask owners, `T` time steps, `R` rows of an owner, `I` input size, `H` hidden size, `U` actions.
"""

from __future__ import annotations

from torch import Tensor, nn

from k24_rllib.checks import ConfigError, check_bool
from k24_rllib.models.agent import AGENTS, Agent, AgentWeights, LayerFactory, Stage, through_layers
from k24_rllib.models.gru import GRU, IndependentGRU
from k24_rllib.models.masked_gru import MaskedGRU
from k24_rllib.sparsity import MaskedLayer


class GRUAgent(Agent):
    """`fc1 -> ReLU -> GRU -> fc2 -> ReLU -> fc3 -> ReLU -> fc4`, needed where one observation does not tell everything.

    The architecture is 1R3 of Kaleidoscope (arXiv 2410.08540): one layer before the recurrent cell, three after it.
    The GRU is dense and shared by all owners, unless it is masked too; where layers share nothing, each owner has its
    own.

    Args:
        input_dim: `I`: observation, agent id and last action, whichever are on.
        num_actions: `U`.
        num_owners: `A`.
        make_layer: Makes each fully connected layer; see `LayerFactory`.
        hidden_dim: `H`; more hidden units represent more and cost quadratically more.
        compiled: Whether compiled kernels may compute the recurrence, see `GRU`.
        masked_cell: Whether the cell's two matrices are layers as the others are, masked by each owner: owners then
            differ in what they remember, and an update takes longer.
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
        masked_cell: bool = False,
    ) -> None:
        super().__init__(num_owners)
        check_bool("masked_cell", masked_cell)
        self.hidden_dim = hidden_dim
        self.fc1 = make_layer(input_dim, hidden_dim)
        self.middle: GRU | IndependentGRU | MaskedGRU
        if masked_cell:
            self.middle = MaskedGRU(hidden_dim, hidden_dim, make_layer, compiled)
        elif self.fc1.shares_weights:
            self.middle = GRU(hidden_dim, hidden_dim, compiled)
        else:
            self.middle = IndependentGRU(hidden_dim, hidden_dim, num_owners, compiled)
        self.fc2 = make_layer(hidden_dim, hidden_dim)
        self.fc3 = make_layer(hidden_dim, hidden_dim)
        self.fc4 = make_layer(hidden_dim, num_actions)

    def layers(self) -> list[MaskedLayer]:
        """Returns the fully connected layers, and the cell's where these are masked, from input to output."""
        cell = self.middle.layers() if isinstance(self.middle, MaskedGRU) else []
        return [self.fc1, *cell, self.fc2, self.fc3, self.fc4]

    def stages(self) -> list[Stage]:
        """Returns the layers and the GRU, in order.

        Raises:
            ConfigError: if the GRU is masked: no exported form holds that yet.
        """
        if isinstance(self.middle, MaskedGRU):
            raise ConfigError("masked_cell: got true, which no format holds yet, expected a team trained with false")
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
        made, of_cell, of_rest = weights.layers[:1], weights.layers[1:-3], weights.layers[-3:]
        x = through_layers([self.fc1], made, inputs.reshape(owners, steps * rows, -1), track).relu_()
        by_time = x.view(owners, steps, rows, -1)
        if isinstance(self.middle, MaskedGRU):
            states, hidden = self.middle.unroll(by_time, hidden, of_cell, track)
        else:
            states, hidden = self.middle.unroll(by_time, hidden)
        rest = [self.fc2, self.fc3, self.fc4]
        q = through_layers(rest, of_rest, states.reshape(owners, steps * rows, -1), track)
        return q.view(owners, steps, rows, -1), hidden


AGENTS.register("gru", GRUAgent)
