"""The agent that acts on what it sees now: five masked layers.

Shapes: `A` mask owners, `T` time steps, `R` rows of an owner, `I` input size, `U` actions.
"""

from __future__ import annotations

from torch import Tensor

from k24_rllib.models.agent import AGENTS, Agent, AgentWeights, LayerFactory, Stage, through_layers
from k24_rllib.sparsity import MaskedLayer


class FeedforwardAgent(Agent):
    """`fc1 -> ReLU -> middle -> ReLU -> fc2 -> ReLU -> fc3 -> ReLU -> fc4`: a layer where `GRUAgent` has its GRU.

    Args:
        input_dim: `I`: observation, agent id and last action, whichever are on.
        num_actions: `U`.
        num_owners: `A`.
        make_layer: Makes each layer; see `LayerFactory`.
        hidden_dim: Width of the hidden layers; wider ones represent more and cost quadratically more.
        compiled: Taken, as `GRUAgent` takes it; there is no recurrence to compile.
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
        self.fc1 = make_layer(input_dim, hidden_dim)
        self.middle = make_layer(hidden_dim, hidden_dim)
        self.fc2 = make_layer(hidden_dim, hidden_dim)
        self.fc3 = make_layer(hidden_dim, hidden_dim)
        self.fc4 = make_layer(hidden_dim, num_actions)

    def layers(self) -> list[MaskedLayer]:
        """Returns all layers, from input to output."""
        return [self.fc1, self.middle, self.fc2, self.fc3, self.fc4]

    def stages(self) -> list[Stage]:
        """Returns all layers, in order."""
        names = ("fc1", "middle", "fc2", "fc3", "fc4")
        return [Stage(name, layer, name != "fc4") for name, layer in zip(names, self.layers(), strict=True)]

    def initial_hidden(self, groups: int, rows: int) -> Tensor:
        """Returns `[A, R, 0]`: there is nothing to remember."""
        return self.fc1.weight.new_zeros(groups, rows, 0)

    def unroll(
        self, inputs: Tensor, hidden: Tensor, weights: AgentWeights, track: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Computes all time steps at once; see `Agent.unroll`."""
        owners, steps, rows, _ = inputs.shape
        q = through_layers(self.layers(), weights.layers, inputs.reshape(owners, steps * rows, -1), track)
        return q.view(owners, steps, rows, -1), hidden


AGENTS.register("feedforward", FeedforwardAgent)
