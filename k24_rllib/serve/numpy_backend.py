"""A team's network in NumPy: one product of all agents for each layer.

Shapes: `G` groups of rows (agents, or rows of one owner), `R` rows of a group, `I`/`J` in/out features, `H` hidden
size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k24_rllib.serve.backend import Floats, NetworkBackend
from k24_rllib.serve.team import Cell, Linear, Stage, Team

Select = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class _Product:
    """`x [G, R, I]` to `x @ weight + bias`, `[G, R, J]`."""

    weight: Floats  # [G, I, J], or [I, J] for all groups
    bias: Floats | None  # [G or 1, 1, J]

    @classmethod
    def of(cls, weight: Floats, bias: Floats | None, select: Select) -> _Product:
        """Takes weights `[K, J, I]` and biases `[K', J]` of owners for the groups that `select` makes of them."""
        chosen = np.ascontiguousarray(select(weight).swapaxes(1, 2))
        return cls(chosen[0] if len(chosen) == 1 else chosen, None if bias is None else select(bias)[:, None])

    def __call__(self, x: Floats) -> Floats:
        if self.weight.ndim == 2:
            y = (x.reshape(-1, x.shape[-1]) @ self.weight).reshape(*x.shape[:-1], -1)
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
    """`r, z = sigmoid(i_rz + g_rz)`, `n = tanh(i_n + r g_n)`, `h' = n + z (h - n)`, as in `models.gru`."""

    inputs: _Product
    memory: _Product
    size: int

    def __call__(self, x: Floats, before: Floats) -> Floats:
        gates, share, size = self.inputs(x), self.memory(before), self.size
        squashed = gates[..., : 2 * size] + share[..., : 2 * size]
        # sigmoid(a) = (1 + tanh(a / 2)) / 2 never overflows.
        squashed *= 0.5
        np.tanh(squashed, out=squashed)
        squashed += 1.0
        squashed *= 0.5
        new = share[..., 2 * size :] * squashed[..., :size]
        new += gates[..., 2 * size :]
        np.tanh(new, out=new)
        after = before - new
        after *= squashed[..., size:]
        after += new
        return after


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

    def _parts(self, owners: NDArray[np.int64]) -> list[_Part]:
        """Returns the network of groups with these owners."""

        def select(of_owners: Floats) -> Floats:
            return of_owners if len(of_owners) == 1 else of_owners[owners % len(of_owners)]

        return [_part(stage, select) for stage in self._team.stages]


def _part(stage: Stage, select: Select) -> _Part:
    if isinstance(stage, Linear):
        return _Layer(_Product.of(stage.weights(), stage.bias, select), stage.relu)
    assert isinstance(stage, Cell)
    inputs = _Product.of(stage.w_ih.float32(), stage.b_ih, select)
    return _GRU(inputs, _Product.of(stage.w_hh.float32(), stage.b_hh, select), stage.out_features)
