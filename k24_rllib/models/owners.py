"""Which rows each mask owner has: an owner's rows side by side, so that each multiplies by its owner's weights.

In the network rows lie owner-major, `[A, T, R, features]`; outside they are the agents', `[N, T, B, features]`.

Shapes: `A` mask owners, `N` agents, `B` episodes or environment copies, `T` time steps, `R` rows of an owner, as many
as the owner with the most has, `F` features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class OwnerGroups:
    """Brings rows into the order of their owners and back, for one unroll of `B` episodes.

    Made by `by_owner` or `by_agent`. Where rows are in order already every method returns what it is given.

    Attributes:
        num_groups: `A`; `N` where agents are the groups.
        rows: `R`; `B` where agents are the groups.
    """

    def __init__(self, num_groups: int, rows: int, places: _Places | None = None) -> None:
        self.num_groups = num_groups
        self.rows = rows
        self._places = places  # None: rows are in order
        self._moves: dict[int, tuple[_Move, _Move]] = {}  # by the number of time steps

    @classmethod
    def by_agent(cls, num_agents: int, episodes: int) -> OwnerGroups:
        """Returns the agents themselves as groups: right where all owners have the same weights."""
        return cls(num_agents, episodes)

    @classmethod
    def by_owner(
        cls, mask_ids: NDArray[np.int64], num_owners: int, device: torch.device | str | None = None
    ) -> OwnerGroups:
        """Returns the groups of rows of each owner.

        In order are they where agent `n` has owner `n` in every episode, and no owner is without an agent.

        Args:
            mask_ids: `[B, N]`, the owner of each agent in each episode.
            num_owners: `A`.
            device: Where the rows are.

        Raises:
            ValueError: if an owner is none of `0 ... A - 1`.
        """
        episodes, agents = mask_ids.shape
        if agents == num_owners and (mask_ids == np.arange(agents)).all():
            return cls.by_agent(agents, episodes)
        if mask_ids.size and not 0 <= mask_ids.min() <= mask_ids.max() < num_owners:
            raise ValueError(f"mask_ids: got {mask_ids.min()} to {mask_ids.max()}, expected 0 to {num_owners - 1}")
        places = _Places.of(mask_ids, num_owners, device)
        return cls(num_owners, places.agent_row.shape[1], places)

    def gather(self, x: Tensor) -> Tensor:
        """Returns the rows of each owner, `[A, T, R, F]`, zeros after its last one, for `x [N, T, B, F]`."""
        if self._places is None:
            return x
        into, back = self._moves_of(self._places, x.shape[1])
        rows: Tensor = _MoveRows.apply(x.flatten(0, 2), into, back)
        return rows.view(self.num_groups, x.shape[1], self.rows, x.shape[-1])

    def scatter(self, y: Tensor) -> Tensor:
        """Returns the rows of each agent, `[N, T, B, F]`, for `y [A, T, R, F]`: the inverse of `gather`."""
        if self._places is None:
            return y
        into, back = self._moves_of(self._places, y.shape[1])
        rows: Tensor = _MoveRows.apply(y.flatten(0, 2), back, into)
        agents, episodes = self._places.owner.shape
        return rows.view(agents, y.shape[1], episodes, y.shape[-1])

    def track(self, real: Tensor) -> Tensor:
        """Returns which rows of each owner are real, `[A, T * R]`, as numbers of the type of `real`.

        Args:
            real: `[T, B]`, 1 at steps that are not padding, else 0. Rows that no agent has are not real either.
        """
        if self._places is None:  # in one piece, which every layer would otherwise make of it
            return real.reshape(1, -1).expand(self.num_groups, -1).contiguous()
        of_agents = real.expand(len(self._places.owner), *real.shape).unsqueeze(-1)  # [N, T, B, 1]
        return self.gather(of_agents).flatten(1)

    def _moves_of(self, places: _Places, steps: int) -> tuple[_Move, _Move]:
        """Returns how rows of `steps` time steps move into groups, and back."""
        if steps not in self._moves:
            self._moves[steps] = places.moves(steps)
        return self._moves[steps]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where rows of one time step are: the group and row of an agent's episode, and the other way round."""

    owner: NDArray[np.int64]  # [N, B], the group that agent n of episode b is in
    owner_row: NDArray[np.int64]  # [N, B], and its row there
    agent_row: NDArray[np.int64]  # [A, R], n * B + b of each row of a group; -1 where it has no more
    device: torch.device | str | None

    @classmethod
    def of(cls, mask_ids: NDArray[np.int64], num_owners: int, device: torch.device | str | None) -> _Places:
        """Numbers each owner's rows in the order of agents and, of one agent, of episodes."""
        owner = mask_ids.T.reshape(-1)  # [N * B]
        counts = np.bincount(owner, minlength=num_owners)
        by_owner = np.argsort(owner, kind="stable")
        row = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)  # of each in `by_owner`
        owner_row = np.empty_like(owner)
        owner_row[by_owner] = row
        agent_row = np.full((num_owners, counts.max()), -1)
        agent_row[owner[by_owner], row] = by_owner
        shape = mask_ids.T.shape
        return cls(owner.reshape(shape), owner_row.reshape(shape), agent_row, device)

    def moves(self, steps: int) -> tuple[_Move, _Move]:
        """Returns how rows of `steps` time steps move from `[N, T, B]` to `[A, T, R]`, and back."""
        time = np.arange(steps)[:, None]
        episodes, rows = self.owner.shape[1], self.agent_row.shape[1]
        agent, episode = np.divmod(np.maximum(self.agent_row, 0), episodes)  # [A, R]
        into = (agent[:, None] * steps + time) * episodes + episode[:, None]  # [A, T, R]
        back = (self.owner[:, None] * steps + time) * rows + self.owner_row[:, None]  # [N, T, B]
        nobody = np.broadcast_to(self.agent_row[:, None] < 0, into.shape)
        without = self._tensor(np.flatnonzero(nobody)) if nobody.any() else None
        return _Move(self._tensor(into), without), _Move(self._tensor(back), None)

    def _tensor(self, index: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(index.reshape(-1)).to(self.device)


@dataclass(frozen=True, slots=True)
class _Move:
    """Rows in another order: which row comes where, and where none does."""

    source: Tensor
    nobody: Tensor | None

    def __call__(self, rows: Tensor) -> Tensor:
        """Returns `rows [rows, F]` in the other order, zeros where none comes."""
        moved = rows.index_select(0, self.source)
        return moved if self.nobody is None else moved.index_fill_(0, self.nobody, 0)


class _MoveRows(torch.autograd.Function):
    """Moves rows `[rows, F]`; as each goes to one place, its gradient comes back from there, without a sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: _Move, back: _Move) -> Tensor:
        ctx.there, ctx.back = there, back
        return there(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _MoveRows.apply(grad, ctx.back, ctx.there), None, None
