"""A team's network in NumPy: one product of all agents for each layer.

Shapes: `G` groups of rows (agents, or rows of one owner), `R` rows of a group, `I`/`J` in/out features, `H` hidden
size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k24_rllib.serve.backend import Floats, NetworkBackend
from k24_rllib.serve.team import Cell, Stage, Team

Owners = NDArray[np.int64]
FEW_ROWS = 8
"""Up to so many rows, each of a group of its own, are multiplied one by one: a matrix times a vector starts faster."""


@dataclass(frozen=True, slots=True)
class _Product:
    """`x [G, R, I]` to `x @ weight + bias`, `[G, R, J]`."""

    weight: Floats  # [G, I, J], or [I, J] for all groups
    bias: Floats | None  # [G, 1, J]: of its result's shape where a group has one row, which is added twice as fast

    @classmethod
    def of(cls, weight: Floats, bias: Floats | None, owners: Owners) -> _Product:
        """Takes weights `[K, J, I]` and biases `[K', J]` of owners for groups that have these owners."""
        chosen = weight[0] if len(weight) == 1 else weight[owners % len(weight)]
        biases = None if bias is None else bias[owners % len(bias)][:, None]
        return cls(np.ascontiguousarray(chosen.swapaxes(-1, -2)), biases)

    def __call__(self, x: Floats) -> Floats:
        groups, rows, size = x.shape
        if self.weight.ndim == 2 and (rows > 1 or groups > FEW_ROWS):
            y = (x.reshape(-1, size) @ self.weight).reshape(groups, rows, -1)
        else:
            y = x @ self.weight
        if self.bias is not None:
            y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class _Layer:
    product: _Product
    relu: bool

    def __call__(self, x: Floats) -> Floats:
        y = self.product(x)
        return np.maximum(y, 0.0, out=y) if self.relu else y


@dataclass(frozen=True, slots=True)
class _GRU:
    """`r, z = sigmoid(i_rz + g_rz)`, `n = tanh(i_n + r g_n)`, `h' = n + z (h - n)`, as in `models.gru`.

    `sigmoid(a) = (1 + tanh(a / 2)) / 2` never overflows, and leaves few operations, each of which takes longer to call
    than to compute: with `r, z = (1 + s) / 2`, `n = tanh(i_n + (1 + s_r) g_n / 2)` and
    `h' = n + (h - n) / 2 + s_z (h - n) / 2`. The halves before tanh are in the weights, which rounds nothing.
    """

    inputs: _Product
    memory: _Product
    size: int

    @classmethod
    def of(cls, cell: Cell, owners: Owners) -> _GRU:
        """Takes a cell's weights for groups that have these owners."""
        size = cell.out_features
        half = np.repeat(np.array([0.5, 0.5, 1.0], np.float32), size)
        inputs = _Product.of(cell.w_ih.float32() * half[:, None], cell.b_ih * half, owners)
        half[2 * size :] = 0.5
        return cls(inputs, _Product.of(cell.w_hh.float32() * half[:, None], cell.b_hh * half, owners), size)

    def __call__(self, x: Floats, before: Floats) -> Floats:
        gates, share, size = self.inputs(x), self.memory(before), self.size
        squashed = gates[..., : 2 * size] + share[..., : 2 * size]
        np.tanh(squashed, out=squashed)
        new = share[..., 2 * size :]
        new = new + new * squashed[..., :size]
        new += gates[..., 2 * size :]
        np.tanh(new, out=new)
        away = before - new
        away *= 0.5
        new += away
        away *= squashed[..., size:]
        new += away
        return new


_Part = _Layer | _GRU


class NumpyBackend(NetworkBackend):
    """Executes a team with NumPy alone.

    Args:
        team: The team.
    """

    def __init__(self, team: Team) -> None:
        super().__init__(team)
        self._team = team
        self._of_agents = self._parts(self._owners)
        self._of_owner: dict[int, list[_Part]] = {}

    def run(self, x: Floats, memory: Floats, owner: int | None) -> tuple[Floats, Floats]:
        """Runs all stages; see `NetworkBackend.run`."""
        parts, after, place = self._of_agents if owner is None else self._owners_parts(owner), [], 0
        for part in parts:
            if isinstance(part, _GRU):
                x = part(x, memory[..., place : place + part.size])
                place += part.size
                after.append(x)
            else:
                x = part(x)
        if not after:
            return x, memory
        return x, after[0] if len(after) == 1 else np.concatenate(after, -1)

    def _owners_parts(self, owner: int) -> list[_Part]:
        if owner not in self._of_owner:
            self._of_owner[owner] = self._parts(np.array([owner]))
        return self._of_owner[owner]

    def _parts(self, owners: Owners) -> list[_Part]:
        """Returns the network of groups with these owners."""
        return [_part(stage, owners) for stage in self._team.stages]


def _part(stage: Stage, owners: Owners) -> _Part:
    if isinstance(stage, Cell):
        return _GRU.of(stage, owners)
    return _Layer(_Product.of(stage.weights(), stage.bias, owners), stage.relu)
