"""Simple: one agent goes to one landmark."""

from __future__ import annotations

from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World


class Simple(Scenario):
    """The agent pays its squared distance to the landmark."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(World(num_envs, [Body("agent_0")], [Body("landmark 0", movable=False)]))

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity, landmark."""
        return [self.world.rows.vel[:, agent], self._landmark_rows(agent)]

    def rewards(self) -> Floats:
        """Minus the squared distance."""
        return -self.world.dist2[:, 1]
