"""What MPE's actions mean, for all copies at once.

Shapes: `E` copies, `N` agents, `U` actions (or numbers in a continuous action) of the agent that has most, `C` size of
a message.

An agent that moves chooses between nothing, left, right, down and up; one that speaks chooses a message; one that does
both chooses a pair, the move running fastest. A continuous action is a strength in `[0, 1]` for each of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.world import World

MOVES = np.array([[0, -1, 1, 0, 0], [0, 0, 0, -1, 1]], float)  # [2, move]


class Actions(ABC):
    """Checks actions and turns them into forces and messages of a world.

    Attributes:
        counts: Actions of each agent, `[N]`; those above are padding.
        width: `U`.
        available: Which of the `U` actions each agent has, `[N, U]`.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts = np.array([self._count(index) for index in range(len(world.agents))])
        self.width = int(self.counts.max())
        self.available: NDArray[np.bool_] = np.arange(self.width) < self.counts[:, None]

    @abstractmethod
    def valid(self, actions: NDArray[Any]) -> bool:
        """Returns whether every copy can take its actions; the shape is known to fit."""

    @abstractmethod
    def apply(self, actions: NDArray[Any]) -> None:
        """Writes the world's `force` and `comm`."""

    @abstractmethod
    def _count(self, agent: int) -> int: ...

    def _parts(self, agent: int) -> tuple[int, int]:
        """Returns how many moves and how many messages an agent chooses from; 0 if it cannot move or speak."""
        body = self._world.agents[agent]
        return len(MOVES[0]) if body.movable else 0, 0 if body.silent else self._world.comm_dim


class DiscreteActions(Actions):
    """Actions `[E, N]` of integers, looked up in a table of what each does."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        agents, width = len(world.agents), self.width
        self._limits = self.counts.astype(np.uint64)
        self._offsets = np.arange(agents)[:, None] * width
        self._moves = np.zeros((2, agents, width))
        says = np.zeros((world.comm_dim, len(world.speakers), width))
        for agent in range(agents):
            moves, messages = self._parts(agent)
            for action in range(self.counts[agent]):
                if moves:
                    self._moves[:, agent, action] = MOVES[:, action % moves]
                if messages:
                    says[action // max(moves, 1), world.speakers.index(agent), action] = 1.0
        self._says = says.reshape(world.comm_dim, len(world.speakers) * width)
        self._say_offsets = np.arange(len(world.speakers))[:, None] * width
        self._speakers = list(world.speakers)
        self._accel: NDArray[np.float64] | None = None
        self._forces = np.zeros((2, agents * width))

    def valid(self, actions: NDArray[Any]) -> bool:
        """Returns whether every action is one its agent has; as unsigned numbers, negative ones are far too large."""
        return not (actions.astype(np.int64).view(np.uint64) >= self._limits).any()

    def apply(self, actions: NDArray[Any]) -> None:
        """Writes the world's `force` and `comm`."""
        world = self._world
        if self._accel is not world.accel:
            self._accel = world.accel
            self._forces = (self._moves * world.accel[:, None]).reshape(2, -1)
        chosen = actions.T.astype(np.int64, copy=False)  # [N, E]
        np.take(self._forces, chosen + self._offsets, axis=1, out=world.force, mode="clip")
        if self._speakers:
            np.take(self._says, chosen[self._speakers] + self._say_offsets, axis=1, out=world.comm, mode="clip")

    def _count(self, agent: int) -> int:
        moves, messages = self._parts(agent)
        return max(moves, 1) * max(messages, 1)


class ContinuousActions(Actions):
    """Actions `[E, N, U]` of numbers, clipped to `[0, 1]`: first the five moves, then the message, then padding."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        moving = [index for index, agent in enumerate(world.agents) if agent.movable]
        self._moving = moving
        self._messages = [(speaker, self._parts(speaker)[0]) for speaker in world.speakers]

    def valid(self, actions: NDArray[Any]) -> bool:
        """Returns whether no action of an agent is nan."""
        return not np.isnan(actions[:, self.available]).any()

    def apply(self, actions: NDArray[Any]) -> None:
        """Writes the world's `force` and `comm`."""
        world, moving = self._world, self._moving
        strength = np.clip(actions.T, 0.0, 1.0)  # [U, N, E]
        if moving:
            _, left, right, down, up = strength[:5]
            world.force[...] = 0.0
            world.force[0, moving] = (right - left)[moving]
            world.force[1, moving] = (up - down)[moving]
            world.force *= world.accel[:, None]
        for place, (speaker, start) in enumerate(self._messages):
            world.comm[:, place] = strength[start : start + world.comm_dim, speaker]

    def _count(self, agent: int) -> int:
        return sum(self._parts(agent))
