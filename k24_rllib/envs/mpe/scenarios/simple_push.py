"""Push: agents go to their goal while adversaries push them away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

LANDMARK_COLOURS = np.array([[0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])  # [L, 3]
AGENT_COLOURS = np.array([[0.25, 0.75, 0.25], [0.25, 0.25, 0.75]])  # [goal, 3]
PUSHER_COLOUR, GOAL_COLOUR, OTHER_COLOUR = 4, 0, 2  # where the engine draws


class SimplePush(Scenario):
    """`num_adversaries` pushers, first in the list, and `num_good` agents; the goal of all is one of two landmarks.

    The pushers do not know which. mpe2 has one of each; its functions say what more of them see and earn, and are
    followed here: everybody sees all others, and the agent nearest to the goal is the one that pushers keep away.
    With five pushers and two agents it has the sizes of Kaleidoscope's Push 5v2.
    """

    counts = (2,)

    def __init__(self, num_envs: int, *, num_good: int = 1, num_adversaries: int = 1) -> None:
        agents = [Body(f"adversary_{index}", collide=True) for index in range(num_adversaries)]
        agents += [Body(f"agent_{index}", collide=True) for index in range(num_good)]
        landmarks = [Body(f"landmark {index}", movable=False) for index in range(2)]
        extra: dict[str, tuple[int, ...]] = {
            "goal": (2, num_good),
            "agent_colour": (3,),
            "landmark_colours": (2, 3),
        }
        super().__init__(World(num_envs, agents, landmarks, extra=extra))
        self._pushers = num_adversaries

    def chosen(self) -> None:
        """Writes the colours, and finds everybody's goal in the table."""
        extra = self.world.extra
        extra["agent_colour"][...] = AGENT_COLOURS[self.choices[0]].T
        extra["landmark_colours"][...] = LANDMARK_COLOURS[..., None]
        self._goal = self._dist_cells(range(self._num_agents), self.choices)

    def update(self) -> None:
        """Writes each agent's way to the goal."""
        self.world.extra["goal"][...] = self.world.rel.reshape(2, -1)[:, self._goal[self._pushers :]]

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity, landmarks, the others; agents also see their goal, their own colour and the landmarks'."""
        rows = self.world.rows
        others = [other for other in range(self._num_agents) if other != agent]
        own, landmarks, seen = rows.vel[:, agent], self._landmark_rows(agent), rows.rel[:, agent, others].T.ravel()
        if agent < self._pushers:
            return [own, landmarks, seen]
        extra = rows.extra
        goal = extra["goal"][:, agent - self._pushers]
        return [own, goal, extra["agent_colour"], landmarks, extra["landmark_colours"].ravel(), seen]

    def rewards(self) -> Floats:
        """Agents pay their distance to the goal; pushers earn that of the nearest agent, less their own."""
        dist = self.world.dist.take(self._goal)  # [N, E]
        rewards = -dist
        rewards[: self._pushers] += np.minimum.reduce(dist[self._pushers :], axis=0)
        return rewards

    def body_colours(self, copy: int) -> NDArray[np.int64] | None:
        """Agents are drawn as their goal is; one pusher and one agent are drawn by mpe2."""
        if self._num_agents == 2:
            return None
        colours = np.full(len(self.world.bodies), PUSHER_COLOUR)
        colours[self._pushers : self._num_agents] = GOAL_COLOUR
        colours[self._landmarks] = np.where(np.arange(2) == self.choices[0, copy], GOAL_COLOUR, OTHER_COLOUR)
        return colours

    def read_choices(self, world: Any) -> list[int]:
        """Returns which landmark is the goal."""
        return [world.agents[-1].goal_a.index]

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets the goal, and colours the agents like it."""
        for index, agent in enumerate(world.agents):
            agent.goal_a = world.landmarks[choices[0]]
            if index >= self._pushers:
                agent.color = AGENT_COLOURS[choices[0]].copy()
