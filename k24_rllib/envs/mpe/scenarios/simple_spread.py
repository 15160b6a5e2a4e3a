"""Spread: agents cover landmarks together, and pay for bumping into each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.neighbours import Neighbours, neighbour_extra
from k24_rllib.envs.mpe.scenario import Rows, Scenario, mix_rewards
from k24_rllib.envs.mpe.world import Body, Floats, World

CAPTURE_RADIUS = 0.1


class SimpleSpread(Scenario):
    """`N` agents, `N` landmarks; the team pays each landmark's distance to the nearest agent.

    The curriculum's first stage forgives collisions, the second does not.
    """

    stages: ClassVar[int] = 2

    def __init__(
        self,
        num_envs: int,
        *,
        N: int = 3,  # noqa: N803
        local_ratio: float = 0.5,
        curriculum: bool = False,
        terminate_on_success: bool = False,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        agents = [Body(f"agent_{index}", size=0.15, collide=True) for index in range(N)]
        landmarks = [Body(f"landmark {index}", movable=False) for index in range(N)]
        extra = neighbour_extra(N, num_agent_neighbors, num_landmark_neighbors)
        super().__init__(World(num_envs, agents, landmarks, extra=extra))
        self._near = Neighbours(self.world, num_agent_neighbors, num_landmark_neighbors)
        self._local_ratio = local_ratio
        self._curriculum, self._terminates = curriculum, terminate_on_success
        bump = self.world.sizes[:N, None] + self.world.sizes[:N]
        np.fill_diagonal(bump, -1.0)  # nobody bumps into itself
        self._bump = bump[..., None]

    def update(self) -> None:
        """Finds the nearest bodies, where agents see no others."""
        self._near.update()

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity and position, landmarks, other agents, and their (always silent) messages of two zeros."""
        rows, near = self.world.rows, self._near
        others = near.agent_rows(agent)
        return [
            rows.vel[:, agent],
            rows.pos[:, agent],
            near.landmark_rows(agent),
            others,
            np.repeat(rows.zero, len(others)),
        ]

    def rewards(self) -> Floats:
        """-1 for each collision, mixed with the team's minus sum of distances."""
        agents = self._num_agents
        shared = -np.add.reduce(self._gaps(), axis=0)
        if self._curriculum and self.stage == 0:
            local = np.zeros((agents, self.world.num_envs))
        else:
            local = -np.add.reduce(self.world.dist[:, :agents] < self._bump, axis=1, dtype=float)
        return mix_rewards(local, shared, self._local_ratio)

    def terminal(self) -> NDArray[np.bool_] | None:
        """Every landmark has an agent within 0.1, where episodes end on success."""
        return np.all(self._gaps() < CAPTURE_RADIUS, axis=0) if self._terminates else None

    def _gaps(self) -> Floats:
        """Returns each landmark's distance to the nearest agent, `[L, E]`."""
        gaps: Floats = np.minimum.reduce(self.world.dist[:, self._landmarks], axis=0)
        return gaps
