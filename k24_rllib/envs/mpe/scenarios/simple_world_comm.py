"""World comm: tag with food for the prey, forests to hide in, and a leader who sees through them and tells the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.envs.mpe.boundary import boundary_cost
from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

COMM = 4
LEADER = 0
CATCH = 5.0
EATEN = 2.0


class SimpleWorldComm(Scenario):
    """`num_adversaries` chasers, the leader first, and `num_good` prey."""

    def __init__(
        self,
        num_envs: int,
        *,
        num_good: int = 2,
        num_adversaries: int = 4,
        num_obstacles: int = 1,
        num_food: int = 2,
        num_forests: int = 2,
    ) -> None:
        chaser: dict[str, Any] = {"size": 0.075, "collide": True, "accel": 3.0, "max_speed": 1.0}
        prey: dict[str, Any] = {"size": 0.045, "collide": True, "accel": 4.0, "max_speed": 1.3}
        agents = [Body("leadadversary_0", silent=False, **chaser)]
        agents += [Body(f"adversary_{index}", **chaser) for index in range(num_adversaries - 1)]
        agents += [Body(f"agent_{index}", **prey) for index in range(num_good)]
        still: dict[str, Any] = {"movable": False, "spread": 0.9}
        landmarks = [Body(f"landmark {index}", size=0.2, collide=True, **still) for index in range(num_obstacles)]
        landmarks += [Body(f"food {index}", size=0.03, **still) for index in range(num_food)]
        landmarks += [Body(f"forest {index}", size=0.3, **still) for index in range(num_forests)]
        count = len(agents)
        extra = {
            "in_forest": (count, num_forests),  # 1 inside, -1 outside
            "seen": (2, count, count),  # other agents, at (0, 0) if hidden
            "seen_velocities": (2, count, num_good),
        }
        super().__init__(World(num_envs, agents, landmarks, comm_dim=COMM, extra=extra))
        self._chasers, self._prey = slice(num_adversaries), slice(num_adversaries, count)
        food, forests = count + num_obstacles, count + num_obstacles + num_food
        self._food, self._forests = slice(food, forests), slice(forests, None)

    def update(self) -> None:
        """Works out who hides from whom: agents see who shares a forest, or is outside as they are; the leader all."""
        world, agents = self.world, slice(self._num_agents)
        inside = world.touching(agents, self._forests)  # [N, forests, E]
        hidden = np.any(inside, axis=1)  # [N, E]
        visible = np.any(inside[:, None] & inside, axis=2) | ~(hidden[:, None] | hidden)  # [N, N, E]
        visible[LEADER] = True
        world.extra["in_forest"][...] = inside * 2.0 - 1.0
        np.multiply(world.rel[:, :, agents], visible, out=world.extra["seen"])
        np.multiply(world.vel[:, None, self._prey], visible[:, self._prey], out=world.extra["seen_velocities"])

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity and position, landmarks, agents in sight, prey's velocities, forests; chasers hear the leader.

        Prey see forests before velocities.
        """
        rows = self.world.rows
        others = [other for other in range(self._num_agents) if other != agent]
        prey = [index for index, other in enumerate(range(self._num_agents)[self._prey]) if other != agent]
        seen = rows.extra["seen"][:, agent, others].T.ravel()
        velocities = rows.extra["seen_velocities"][:, agent, prey].T.ravel()
        forests = rows.extra["in_forest"][agent]
        start = [rows.vel[:, agent], rows.pos[:, agent], self._landmark_rows(agent), seen]
        if agent in range(self._num_agents)[self._prey]:
            return [*start, forests, velocities]
        return [*start, velocities, forests, rows.comm[:, LEADER]]

    def rewards(self) -> Floats:
        """Each catch is 5 to all chasers and -5 to the prey.

        Chasers pay a tenth of their distance to the nearest prey. Prey pay twice for leaving the field, a twentieth of
        their distance to the nearest food, and earn 2 for each food they reach.
        """
        world, prey = self.world, self._prey
        catches = np.add.reduce(world.touching(prey, self._chasers), axis=1, dtype=float)  # [prey, E]
        eaten = np.add.reduce(world.touching(prey, self._food), axis=1, dtype=float)
        to_prey = np.minimum.reduce(world.dist[self._chasers, prey], axis=1)  # [chasers, E]
        to_food = np.minimum.reduce(world.dist[prey, self._food], axis=1)
        rewards = np.empty((self._num_agents, world.num_envs))
        rewards[self._chasers] = CATCH * np.add.reduce(catches, axis=0) - 0.1 * to_prey
        rewards[prey] = EATEN * eaten - CATCH * catches - 2 * boundary_cost(world.pos[:, prey]) - 0.05 * to_food
        return rewards
