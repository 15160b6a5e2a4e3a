"""Seeing only the nearest agents and landmarks, an option of three scenarios.

Shapes: `E` copies, `N` agents, `L` landmarks, `P` agents and `Q` landmarks seen at most.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.world import Floats, World

Rows = NDArray[np.int64]


def neighbour_extra(num_agents: int, agents: int | None, landmarks: int | None) -> dict[str, tuple[int, ...]]:
    """Returns what a world with `Neighbours` needs as `extra`; the arguments are `N`, `P` and `Q`."""
    seen, near = agents or 0, landmarks or 0
    return {
        "near_landmarks": (2, num_agents, near),
        "near_agents": (2, num_agents, seen),
        "near_velocities": (2, num_agents, seen),
    }


class Neighbours:
    """The bodies nearest to each agent, nearest first, in `world.extra`; slots that nobody fills stay 0.

    Args:
        world: Made with `neighbour_extra`.
        agents: `P`; None if agents see all others.
        landmarks: `Q`; None if agents see all.
        velocities: Agents whose velocity is seen too, `[N]`; None if nobody's is.
    """

    def __init__(
        self, world: World, agents: int | None, landmarks: int | None, velocities: NDArray[np.bool_] | None = None
    ) -> None:
        self._world, self._agents, self._landmarks, self._shown = world, agents, landmarks, velocities

    def update(self) -> None:
        """Brings them up to date with the world's positions and velocities."""
        world, count = self._world, len(self._world.agents)
        if self._landmarks is not None:
            order = np.argsort(world.dist[:, count:], axis=1)[:, : self._landmarks]
            _fill(world.extra["near_landmarks"], world.rel[:, :, count:], order)
        if self._agents is not None:
            dist = world.dist[:, :count].copy()
            dist[range(count), range(count)] = np.inf  # nobody is a neighbour of itself
            order = np.argsort(dist, axis=1)[:, : min(self._agents, count - 1)]
            _fill(world.extra["near_agents"], world.rel[:, :, :count], order)
            if self._shown is not None:
                shown = (world.vel * self._shown[:, None])[:, None]
                _fill(world.extra["near_velocities"], np.broadcast_to(shown, world.rel[:, :, :count].shape), order)

    def landmark_rows(self, agent: int) -> Rows:
        """Returns the rows in which an agent sees landmarks."""
        rows, count = self._world.rows, len(self._world.agents)
        seen = rows.rel[:, :, count:] if self._landmarks is None else rows.extra["near_landmarks"]
        return seen[:, agent].T.ravel()

    def agent_rows(self, agent: int) -> Rows:
        """Returns the rows in which an agent sees other agents."""
        rows = self._world.rows
        if self._agents is not None:
            return rows.extra["near_agents"][:, agent].T.ravel()
        return rows.rel[:, agent, self._others(agent)].T.ravel()

    def velocity_rows(self, agent: int) -> Rows:
        """Returns the rows in which an agent sees velocities: of all agents shown, or in its neighbours' order."""
        rows = self._world.rows
        if self._agents is not None:
            return rows.extra["near_velocities"][:, agent].T.ravel()
        shown = [other for other in self._others(agent) if self._shown is not None and self._shown[other]]
        return rows.vel[:, shown].T.ravel()

    def _others(self, agent: int) -> list[int]:
        return [other for other in range(len(self._world.agents)) if other != agent]


def _fill(view: Floats, values: Floats, order: NDArray[np.int64]) -> None:
    """Writes `values [2, N, bodies, E]` in `order [N, nearest, E]` to the first slots of `view`."""
    view[:, :, : order.shape[1]] = np.take_along_axis(values, order[None], axis=2)
