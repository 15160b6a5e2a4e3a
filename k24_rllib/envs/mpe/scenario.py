"""What a scenario of MPE has to say: who there is, how an episode begins, what agents see and what they earn.

Shapes: `E` copies, `N` agents, `L` landmarks, `M = N + L` bodies, `G` choices drawn for an episode, `D` uniform draws
an episode begins with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.world import Floats, World

Rows = NDArray[np.int64]


class Scenario(ABC):
    """One scenario in all copies. Subclasses take `num_envs` and mpe2's own options, and build the world.

    Attributes:
        counts: Each choice of an episode (a goal, a key) is one of so many, `G` numbers.
        stages: Stages of the curriculum that `curriculum: true` asks for.
        world: The bodies.
        choices: What was drawn, `[G, E]`.
        stage: Present stage of the curriculum.
    """

    counts: tuple[int, ...] = ()
    stages: ClassVar[int] = 1

    def __init__(self, world: World) -> None:
        self.world = world
        self.choices: NDArray[np.int64] = np.zeros((len(self.counts), world.num_envs), np.int64)
        self.stage = 0
        self._spread = np.array([body.spread for body in world.bodies])[:, None]

    @property
    def draws(self) -> int:
        """Returns `D`."""
        return 2 * len(self.world.bodies) + len(self.choices)

    def begin(self, uniform: Floats) -> None:
        """Starts an episode in every copy from draws `[D, E]` in `[0, 1)`: places first, then choices."""
        world, places = self.world, 2 * len(self.world.bodies)
        world.place((2 * uniform[:places].reshape(world.pos.shape) - 1) * self._spread)
        self.choices = (uniform[places:] * np.array(self.counts)[:, None]).astype(np.int64)
        self.chosen()
        self.update()

    def chosen(self) -> None:  # noqa: B027
        """Brings what follows from `choices` up to date: colours, and where goals are in the table."""

    def update(self) -> None:  # noqa: B027
        """Brings what of `world.extra` follows from the positions up to date, after every step."""

    @abstractmethod
    def observation(self, agent: int) -> list[Rows]:
        """Returns which rows of the table an agent sees, in order."""

    @abstractmethod
    def rewards(self) -> Floats:
        """Returns each agent's reward, `[N, E]`."""

    def body_colours(self, copy: int) -> NDArray[np.int64] | None:
        """Returns a number for each body's colour in a copy, `[M]`, where the engine draws it; None where mpe2 does."""
        return None

    def terminal(self) -> NDArray[np.bool_] | None:
        """Returns which copies have reached their goal, `[E]`, or None where a scenario only ends by its limit."""
        return None

    def read_choices(self, world: Any) -> list[int]:
        """Returns the choices of a live `mpe2` world."""
        return []

    def write_choices(self, world: Any, choices: list[int]) -> None:  # noqa: B027
        """Sets the choices of a live `mpe2` world, and the colours that show them."""

    @property
    def _num_agents(self) -> int:
        return len(self.world.agents)

    @property
    def _landmarks(self) -> slice:
        return slice(self._num_agents, None)

    def _landmark_rows(self, agent: int) -> Rows:
        """Returns the rows of where an agent sees landmarks: x and y of the first, of the second, ..."""
        return self.world.rows.rel[:, agent, self._landmarks].T.ravel()

    def _dist_cells(self, agents: Sequence[int], choices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns where `world.dist`, read flat, holds agents' distances to the landmarks chosen, `[len(agents), E]`.

        `choices` is `[len(agents), E]`, or `[1, E]` for a landmark that all share.
        """
        world = self.world
        bodies = np.array(agents)[:, None] * len(world.bodies) + self._num_agents + choices
        return bodies * world.num_envs + np.arange(world.num_envs)


def mix_rewards(local: Floats, shared: Floats, local_ratio: float) -> Floats:
    """Returns `local [N, E]` and `shared [E]` rewards weighted by `local_ratio` and what is left of 1."""
    mixed: Floats = shared * (1 - local_ratio) + local * local_ratio
    return mixed
