"""Reference: each of two agents knows where the other should go, and tells it."""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.envs.mpe.scenario import Rows, Scenario, mix_rewards
from k24_rllib.envs.mpe.world import Body, Floats, World

COLOURS = np.array([[0.75, 0.25, 0.25], [0.25, 0.75, 0.25], [0.25, 0.25, 0.75]])  # [L, 3]


class SimpleReference(Scenario):
    """Each agent pays the other's distance to the goal that it alone knows, one of three landmarks."""

    counts = (3, 3)  # the goal agent 0 knows, the goal agent 1 knows

    def __init__(self, num_envs: int, *, local_ratio: float = 0.5) -> None:
        agents = [Body(f"agent_{index}", silent=False) for index in range(2)]
        landmarks = [Body(f"landmark {index}", movable=False) for index in range(3)]
        super().__init__(World(num_envs, agents, landmarks, comm_dim=10, extra={"goal_colours": (2, 3)}))
        self._local_ratio = local_ratio

    def chosen(self) -> None:
        """Shows each agent the colour of the goal it knows, which is where the other should go."""
        self.world.extra["goal_colours"][...] = COLOURS[self.choices].transpose(0, 2, 1)
        self._goals = self._dist_cells([1, 0], self.choices)

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity, landmarks, the colour of the other's goal, the other's message."""
        rows = self.world.rows
        colour = rows.extra["goal_colours"][agent]
        return [rows.vel[:, agent], self._landmark_rows(agent), colour, rows.comm[:, 1 - agent]]

    def rewards(self) -> Floats:
        """Minus the other's distance, mixed with the mean of both."""
        local = -self.world.dist.take(self._goals)
        return mix_rewards(local, np.add.reduce(local, axis=0) / 2, self._local_ratio)

    def read_choices(self, world: Any) -> list[int]:
        """Returns which landmark each agent knows to be the goal."""
        return [world.landmarks.index(agent.goal_b) for agent in world.agents]

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets the goals, and colours each agent like its own."""
        for agent, other, choice in zip(world.agents, reversed(world.agents), choices, strict=True):
            agent.goal_a, agent.goal_b = other, world.landmarks[choice]
            other.color = agent.goal_b.color
