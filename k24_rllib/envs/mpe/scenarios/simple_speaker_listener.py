"""Speaker and listener: one knows the goal and cannot move, the other moves and only hears."""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

COLOURS = np.array([[0.65, 0.15, 0.15], [0.15, 0.65, 0.15], [0.15, 0.15, 0.65]])  # [L, 3]
SPEAKER, LISTENER = 0, 1


class SimpleSpeakerListener(Scenario):
    """Both pay the listener's squared distance to the goal, one of three landmarks."""

    counts = (3,)

    def __init__(self, num_envs: int) -> None:
        agents = [Body("speaker_0", size=0.075, movable=False, silent=False), Body("listener_0", size=0.075)]
        landmarks = [Body(f"landmark {index}", size=0.04, movable=False) for index in range(3)]
        super().__init__(World(num_envs, agents, landmarks, comm_dim=3, extra={"goal_colour": (3,)}))

    def chosen(self) -> None:
        """Shows the speaker the goal's colour."""
        self.world.extra["goal_colour"][...] = COLOURS[self.choices[0]].T
        self._goal = self._dist_cells([LISTENER], self.choices)

    def observation(self, agent: int) -> list[Rows]:
        """The speaker: the goal's colour; the listener: own velocity, landmarks, the message."""
        rows = self.world.rows
        if agent == SPEAKER:
            return [rows.extra["goal_colour"]]
        return [rows.vel[:, agent], self._landmark_rows(agent), rows.comm[:, 0]]

    def rewards(self) -> Floats:
        """Minus the squared distance, for both."""
        return np.repeat(-self.world.dist2.take(self._goal), 2, axis=0)

    def read_choices(self, world: Any) -> list[int]:
        """Returns which landmark is the goal."""
        return [world.landmarks.index(world.agents[SPEAKER].goal_b)]

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets the goal, and colours the listener brighter than it."""
        goal = world.landmarks[choices[0]]
        world.agents[SPEAKER].goal_a, world.agents[SPEAKER].goal_b = world.agents[LISTENER], goal
        world.agents[LISTENER].color = goal.color + 0.45
