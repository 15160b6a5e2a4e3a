"""Push: an agent goes to its goal while an adversary pushes it away."""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

LANDMARK_COLOURS = np.array([[0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])  # [L, 3]
AGENT_COLOURS = np.array([[0.25, 0.75, 0.25], [0.25, 0.25, 0.75]])  # [goal, 3]
ADVERSARY, AGENT = 0, 1


class SimplePush(Scenario):
    """The goal is one of two landmarks; the adversary does not know which."""

    counts = (2,)

    def __init__(self, num_envs: int) -> None:
        agents = [Body(name, collide=True) for name in ("adversary_0", "agent_0")]
        landmarks = [Body(f"landmark {index}", movable=False) for index in range(2)]
        extra: dict[str, tuple[int, ...]] = {"goal": (2,), "agent_colour": (3,), "landmark_colours": (2, 3)}
        super().__init__(World(num_envs, agents, landmarks, extra=extra))

    def chosen(self) -> None:
        """Writes the colours, and finds both agents' goal in the table."""
        extra = self.world.extra
        extra["agent_colour"][...] = AGENT_COLOURS[self.choices[0]].T
        extra["landmark_colours"][...] = LANDMARK_COLOURS[..., None]
        self._goal = self._dist_cells([ADVERSARY, AGENT], self.choices)

    def update(self) -> None:
        """Writes the agent's way to the goal."""
        self.world.extra["goal"][...] = self.world.rel.reshape(2, -1)[:, self._goal[AGENT]]

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity, landmarks, the other; the agent also sees its goal, its own colour and the landmarks'."""
        rows = self.world.rows
        own, landmarks, other = rows.vel[:, agent], self._landmark_rows(agent), rows.rel[:, agent, 1 - agent]
        if agent == ADVERSARY:
            return [own, landmarks, other]
        extra = rows.extra
        return [own, extra["goal"], extra["agent_colour"], landmarks, extra["landmark_colours"].ravel(), other]

    def rewards(self) -> Floats:
        """The agent pays its distance to the goal; the adversary earns it, less its own."""
        dist = self.world.dist.take(self._goal)  # [2, E]
        return np.stack([dist[AGENT] - dist[ADVERSARY], -dist[AGENT]])

    def read_choices(self, world: Any) -> list[int]:
        """Returns which landmark is the goal."""
        return [world.agents[AGENT].goal_a.index]

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets the goal, and colours the agent like it."""
        for agent in world.agents:
            agent.goal_a = world.landmarks[choices[0]]
        world.agents[AGENT].color = AGENT_COLOURS[choices[0]].copy()
