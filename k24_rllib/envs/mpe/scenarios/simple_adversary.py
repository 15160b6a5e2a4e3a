"""Adversary: agents cover the one landmark that counts while an adversary, who does not know which, looks for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.envs.mpe.neighbours import Neighbours, neighbour_extra
from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

PLAIN, GOAL = (0.15, 0.15, 0.15), (0.15, 0.65, 0.15)


class SimpleAdversary(Scenario):
    """One adversary, first in the list, and `N` agents; the goal is one of `N` landmarks."""

    def __init__(
        self,
        num_envs: int,
        *,
        N: int = 2,  # noqa: N803
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        names = ["adversary_0", *(f"agent_{index}" for index in range(N))]
        agents = [Body(name, size=0.15) for name in names]
        landmarks = [Body(f"landmark {index}", size=0.08, movable=False) for index in range(N)]
        extra = neighbour_extra(N + 1, num_agent_neighbors, num_landmark_neighbors) | {"goal": (2, N + 1)}
        self.counts = (N,)
        super().__init__(World(num_envs, agents, landmarks, extra=extra))
        self._near = Neighbours(self.world, num_agent_neighbors, num_landmark_neighbors)

    def chosen(self) -> None:
        """Finds every agent's goal in the table."""
        self._goal = self._dist_cells(range(self._num_agents), self.choices)

    def update(self) -> None:
        """Writes the way to the goal, and the nearest bodies where agents see no others."""
        self.world.extra["goal"][...] = self.world.rel.reshape(2, -1)[:, self._goal]
        self._near.update()

    def observation(self, agent: int) -> list[Rows]:
        """The goal (not the adversary), landmarks, other agents."""
        bodies = [self._near.landmark_rows(agent), self._near.agent_rows(agent)]
        return bodies if agent == 0 else [self.world.rows.extra["goal"][:, agent], *bodies]

    def rewards(self) -> Floats:
        """The adversary pays its distance to the goal; agents earn it, less that of the nearest of them."""
        dist = self.world.dist.take(self._goal)  # [N, E]
        rewards = np.empty_like(dist)
        rewards[0] = -dist[0]
        rewards[1:] = dist[0] - np.minimum.reduce(dist[1:], axis=0)
        return rewards

    def read_choices(self, world: Any) -> list[int]:
        """Returns which landmark is the goal."""
        return [world.landmarks.index(world.agents[0].goal_a)]

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets the goal and colours it."""
        for agent in world.agents:
            agent.goal_a = world.landmarks[choices[0]]
        for index, landmark in enumerate(world.landmarks):
            landmark.color = np.array(GOAL if index == choices[0] else PLAIN)
