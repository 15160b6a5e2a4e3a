"""Blind-particle spread (Christianos et al. 2021, "Scaling multi-agent RL with selective parameter sharing", SePS).

Agents of a few colours and a landmark of each colour. Nobody sees a colour, not even its own, so that only who an agent
is can tell it where to go: one network for all has to learn that from the agents' ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World


class BlindSpread(Scenario):
    """Each agent pays its distance to the landmark of its own colour, at every step.

    Args:
        num_envs: `E`.
        groups: Agents of each colour; there are as many landmarks as colours. `[1, 1, 1, 1, 1]` are five agents that
            all differ, `[5, 5, 5]` is one of the published tasks.
        shuffle_observations: Whether the agents of each colour have their observation in an order of their own, the
            same for ever. One network for all then has to learn as many encodings as there are colours.
    """

    def __init__(
        self, num_envs: int, *, groups: Sequence[int] = (1, 1, 1, 1, 1), shuffle_observations: bool = False
    ) -> None:
        self.colours = np.repeat(np.arange(len(groups)), groups)  # [N]
        agents = [Body(f"agent_{index}") for index in range(len(self.colours))]
        landmarks = [Body(f"landmark {index}", movable=False) for index in range(len(groups))]
        super().__init__(World(num_envs, agents, landmarks))
        self._everybody = np.arange(len(agents))
        self._shuffle = shuffle_observations

    def observation(self, agent: int) -> list[Rows]:
        """Own velocity and position, and where every landmark is, in the same order for all unless shuffled."""
        rows = self.world.rows
        seen = np.concatenate([rows.vel[:, agent], rows.pos[:, agent], self._landmark_rows(agent)])
        if self._shuffle:
            seen = seen[np.random.default_rng(int(self.colours[agent])).permutation(len(seen))]
        return [seen]

    def body_colours(self, copy: int) -> NDArray[np.int64]:
        """Agents are drawn as their landmarks are."""
        return np.concatenate([self.colours, np.arange(len(self.world.landmarks))])

    def rewards(self) -> Floats:
        """Minus each agent's distance to the landmark of its colour."""
        own: Floats = -self.world.dist[self._everybody, self._num_agents + self.colours]
        return own
