"""Tag: adversaries chase faster prey around obstacles."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.boundary import boundary_cost
from k24_rllib.envs.mpe.neighbours import Neighbours, neighbour_extra
from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

PREY_ACCEL, PREY_MAX_SPEED = 4.0, 1.3
PREY_SPEED = (0.5, 0.75, 1.0)  # of the curriculum's stages
CATCH = 10.0


class SimpleTag(Scenario):
    """`num_adversaries` chasers, first in the list, and `num_good` prey.

    The curriculum slows the prey in its first two stages, from the next reset on.
    """

    stages: ClassVar[int] = len(PREY_SPEED)

    def __init__(
        self,
        num_envs: int,
        *,
        num_good: int = 1,
        num_adversaries: int = 3,
        num_obstacles: int = 2,
        curriculum: bool = False,
        terminate_on_success: bool = False,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        chaser: dict[str, Any] = {"size": 0.075, "collide": True, "accel": 3.0, "max_speed": 1.0}
        prey: dict[str, Any] = {"size": 0.05, "collide": True, "accel": PREY_ACCEL, "max_speed": PREY_MAX_SPEED}
        agents = [Body(f"adversary_{index}", **chaser) for index in range(num_adversaries)]
        agents += [Body(f"agent_{index}", **prey) for index in range(num_good)]
        obstacle: dict[str, Any] = {"size": 0.2, "collide": True, "movable": False, "spread": 0.9}
        landmarks = [Body(f"landmark {index}", **obstacle) for index in range(num_obstacles)]
        extra = neighbour_extra(len(agents), num_agent_neighbors, num_landmark_neighbors)
        super().__init__(World(num_envs, agents, landmarks, extra=extra))
        self._curriculum, self._terminates = curriculum, terminate_on_success
        self._chasers, self._prey = slice(num_adversaries), slice(num_adversaries, len(agents))
        is_prey = np.arange(len(agents)) >= num_adversaries
        self._near = Neighbours(self.world, num_agent_neighbors, num_landmark_neighbors, is_prey)

    def begin(self, uniform: Floats) -> None:
        """Starts an episode, with the prey as fast as the curriculum says."""
        if self._curriculum:
            accel, max_speed = self.world.accel.copy(), self.world.max_speed.copy()
            accel[self._prey] = PREY_ACCEL * PREY_SPEED[self.stage]
            max_speed[self._prey] = PREY_MAX_SPEED * PREY_SPEED[self.stage]
            self.world.limit_agents(accel, max_speed)
        super().begin(uniform)

    def update(self) -> None:
        """Finds the nearest bodies, where agents see no others."""
        self._near.update()

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity and position, obstacles, other agents, velocities of the prey among them."""
        rows, near = self.world.rows, self._near
        bodies = [near.landmark_rows(agent), near.agent_rows(agent), near.velocity_rows(agent)]
        return [rows.vel[:, agent], rows.pos[:, agent], *bodies]

    def rewards(self) -> Floats:
        """Each catch is 10 to all chasers and -10 to the prey, which also pays for leaving the field."""
        world = self.world
        catches = np.add.reduce(self._caught(), axis=1, dtype=float)  # [prey, E]
        rewards = np.empty((self._num_agents, world.num_envs))
        rewards[self._chasers] = CATCH * np.add.reduce(catches, axis=0)
        rewards[self._prey] = -CATCH * catches - boundary_cost(world.pos[:, self._prey])
        return rewards

    def terminal(self) -> NDArray[np.bool_] | None:
        """All prey are caught at once, where episodes end on success."""
        return np.all(np.any(self._caught(), axis=1), axis=0) if self._terminates else None

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets how fast agents are, which the curriculum changes."""
        for agent, accel, max_speed in zip(world.agents, self.world.accel, self.world.max_speed, strict=True):
            agent.accel, agent.max_speed = float(accel), float(max_speed)

    def _caught(self) -> NDArray[np.bool_]:
        """Returns which prey touches which chaser, `[prey, chasers, E]`."""
        return self.world.touching(self._prey, self._chasers)
