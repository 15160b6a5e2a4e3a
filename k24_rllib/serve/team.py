"""A trained team as arrays: its sizes and names, and its network from input to output.

Shapes: `A` mask owners, `K` matrices (`A`, or 1 that all owners share), `R` masks that differ (`A`, or 1), `I`/`J`
in/out features, `G` groups, `H` hidden size, `N` agents, `O` observation size, `U` actions, `M` numbers that an agent
remembers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError
from k24_rllib.serve.number_types import Numbers
from k24_rllib.serve.pattern_bits import masks_of


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A fully connected layer: weights that owners share or own, and what each owner keeps of them.

    Attributes:
        name: Of the layer in its agent, as `fc1`.
        relu: Whether negative outputs become 0.
        weight: `[K, J, I]`.
        bias: `[K', J]`, `K'` 1 or `A`; None for none.
        ratio: `(n, m)`, of every `m` weights at most `n` are kept; None where nothing of the kind is promised.
        patterns: `[R, J, G]`, the index of each group's pattern; then `K` is 1.
        kept: `[K, J, I]`, weights that are kept, where which are is no pattern.
        gain: `[A, J]`, what each owner's weights of an output are multiplied by; None for nothing.
    """

    name: str
    relu: bool
    weight: Numbers
    bias: NDArray[np.float32] | None = None
    ratio: tuple[int, int] | None = None
    patterns: NDArray[np.uint8] | None = None
    kept: NDArray[np.bool_] | None = None
    gain: NDArray[np.float32] | None = None

    @property
    def in_features(self) -> int:
        """`I`."""
        return self.weight.shape[2]

    @property
    def out_features(self) -> int:
        """`J`."""
        return self.weight.shape[1]

    @property
    def num_distinct(self) -> int:
        """How many owners' weights or biases differ: `A`, or 1 where all owners have the same."""
        return self.num_weights if self.bias is None else max(self.num_weights, len(self.bias))

    @property
    def num_weights(self) -> int:
        """How many owners' weights differ."""
        masks = self.weight.shape[0] if self.patterns is None else len(self.patterns)
        return masks if self.gain is None else max(masks, len(self.gain))

    def masks(self) -> NDArray[np.bool_] | None:
        """Returns which weights each owner keeps, `[R, J, I]`; None where all are kept."""
        if self.patterns is None or self.ratio is None:
            return self.kept
        return masks_of(self.patterns, self.ratio, self.in_features)

    def weights(self) -> NDArray[np.float32]:
        """Returns each owner's weights, 0 where one is not kept, `[R, J, I]`."""
        weights, masks = self.weight.float32(), self.masks()
        weights = weights if masks is None else weights * masks
        return weights if self.gain is None else weights * self.gain[..., None]


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A GRU in PyTorch's order of gates: reset, update, new.

    Attributes:
        name: Of the cell in its agent.
        w_ih: `[K, 3H, I]`.
        w_hh: `[K, 3H, H]`.
        b_ih: `[K, 3H]`.
        b_hh: `[K, 3H]`.
    """

    name: str
    w_ih: Numbers
    w_hh: Numbers
    b_ih: NDArray[np.float32]
    b_hh: NDArray[np.float32]

    @property
    def in_features(self) -> int:
        """`I`."""
        return self.w_ih.shape[2]

    @property
    def out_features(self) -> int:
        """`H`."""
        return self.w_hh.shape[2]

    @property
    def num_distinct(self) -> int:
        """`K`."""
        return self.w_ih.shape[0]


Stage = Linear | Cell


@dataclass(frozen=True, slots=True)
class Spec:
    """What a team takes and gives, and where it is from.

    Attributes:
        algorithm: The registered name of what trained it.
        env: The environment's name.
        agents: The agents' names, in order.
        obs_dim: `O`.
        num_actions: `U`.
        num_owners: `A`.
        owners: The mask owner of each agent; None where that changes between episodes, and `act` is told.
        agent_id: Whether the network sees a one-hot agent id.
        last_action: Whether it sees the last action.
        memory: `M`.
        dtype: Of its matrices, see `number_types`.
        made_by: The version of the package that exported it.
    """

    algorithm: str
    env: str
    agents: tuple[str, ...]
    obs_dim: int
    num_actions: int
    num_owners: int
    owners: tuple[int, ...] | None
    agent_id: bool
    last_action: bool
    memory: int
    dtype: str
    made_by: str

    @property
    def num_agents(self) -> int:
        """`N`."""
        return len(self.agents)

    @property
    def input_dim(self) -> int:
        """Numbers that the network takes of an agent: observation, agent id and last action, whichever are on."""
        return self.obs_dim + self.num_agents * self.agent_id + self.num_actions * self.last_action

    @property
    def state_size(self) -> int:
        """Numbers of an agent's state: what it remembers and, where it sees that, its last action as one-hot."""
        return self.memory + self.num_actions * self.last_action


@dataclass(frozen=True, slots=True, eq=False)
class Team:
    """A team that can act: see `Spec`, and its network from input to output."""

    spec: Spec
    stages: tuple[Stage, ...]

    @property
    def tells_owners_apart(self) -> bool:
        """Whether it matters which owner an agent has."""
        return any(stage.num_distinct > 1 for stage in self.stages)

    def layers(self) -> list[Linear]:
        """Returns the fully connected layers, from input to output."""
        return [stage for stage in self.stages if isinstance(stage, Linear)]

    def cells(self) -> list[Cell]:
        """Returns the recurrent cells, from input to output."""
        return [stage for stage in self.stages if isinstance(stage, Cell)]

    def fixed_owners(self) -> NDArray[np.int64]:
        """Returns the owner of each agent, `[N]`.

        Raises:
            ConfigError: where owners change between episodes and differ, so that a graph can't have them built in.
        """
        if self.spec.owners is None and self.tells_owners_apart:
            raise ConfigError(
                f"format: the mask owners of {self.spec.env} change between episodes, and a graph has them built in; "
                "expected packed or safetensors"
            )
        return np.array(self.spec.owners or (0,) * self.spec.num_agents)
