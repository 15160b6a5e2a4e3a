"""The physics of MPE for all copies at once: round bodies, damped motion, soft contacts, after `mpe2` 1.1.1.

Shapes: `E` copies, `N` agents, `L` landmarks, `M = N + L` bodies (agents first), `C` size of a message, `R` rows of
the table. Two-dimensional quantities keep x and y in their first axis, copies come last, so
that NumPy's inner loops run over copies.

Everything an agent can see lives in one table `[R, E]`, of which the attributes of `World` are views. An observation is
then a choice of rows, fixed when the environment is made, and stepping never gathers Python objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DT = 0.1  # s
DAMPING = 0.25  # share of the speed lost in a step
CONTACT_FORCE = 1e2
CONTACT_MARGIN = 1e-3  # softness of a contact, in units of length
DEFAULT_ACCEL = 5.0
REACH = 50 * CONTACT_MARGIN
"""Beyond this gap a contact's force is below `1e2 * 1e-3 * exp(-50) = 2e-23`, less than float64 adds to anything."""


@dataclass(frozen=True)
class Body:
    """An agent or a landmark. The defaults are mpe2's; every body has mass 1.

    Attributes:
        name: As mpe2 calls it.
        size: Radius.
        collide: Whether it pushes others and is pushed.
        movable: Whether forces move it; no landmark of MPE is.
        silent: Whether it sends no messages (agents).
        accel: Force of a move; None means 5.
        max_speed: Speed it cannot exceed; None means any.
        spread: It starts anywhere in the square from `-spread` to `spread`.
    """

    name: str
    size: float = 0.05
    collide: bool = False
    movable: bool = True
    silent: bool = True
    accel: float | None = None
    max_speed: float | None = None
    spread: float = 1.0


@dataclass(frozen=True)
class Views:
    """Named parts of an array whose first axis is the table's rows; the shapes leave out its other axes."""

    rel: NDArray[Any]  # [2, N, M], position of a body as seen from an agent
    dist2: NDArray[Any]  # [N, M], its squared distance
    dist: NDArray[Any]  # [N, M]
    pos: NDArray[Any]  # [2, M]
    vel: NDArray[Any]  # [2, N]
    comm: NDArray[Any]  # [C, speakers], last message of each agent that is not silent
    zero: NDArray[Any]  # [1]
    extra: dict[str, NDArray[Any]]  # whatever else a scenario's agents see


class World:
    """Bodies, their motion and their contacts, in `num_envs` copies.

    Attributes:
        table: All of the below, `[R, E]`.
        rows: The same views of the row numbers, to say which rows an agent sees.
        rel, dist2, dist, pos, vel, comm, extra: See `Views`; each has `E` as its last axis.
        force: Force each agent applies to itself in the next step, `[2, N, E]`.
        accel, max_speed: Of each agent, `[N]`; `limit_agents` changes them.

    Args:
        num_envs: `E`.
        agents: In mpe2's order.
        landmarks: In mpe2's order; they stay where they are.
        comm_dim: `C`.
        extra: Names and shapes, without `E`, of what agents see besides; zeros until a scenario writes there.
    """

    def __init__(
        self,
        num_envs: int,
        agents: Sequence[Body],
        landmarks: Sequence[Body],
        *,
        comm_dim: int = 0,
        extra: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    ) -> None:
        self.num_envs, self.comm_dim = num_envs, comm_dim
        self.agents, self.landmarks = tuple(agents), tuple(landmarks)
        self.bodies = self.agents + self.landmarks
        self.speakers = tuple(index for index, agent in enumerate(agents) if not agent.silent)
        count, bodies = len(self.agents), len(self.bodies)
        shapes: dict[str, tuple[int, ...]] = {
            "rel": (2, count, bodies),
            "dist2": (count, bodies),
            "dist": (count, bodies),
            "pos": (2, bodies),
            "vel": (2, count),
            "comm": (comm_dim, len(self.speakers)),
            "zero": (1,),
        }
        size = sum(math.prod(shape) for shape in [*shapes.values(), *extra.values()])
        self.table: Floats = np.zeros((size, num_envs))
        self.rows = _carve(np.arange(size), shapes, extra)
        views = _carve(self.table, shapes, extra)
        self.rel, self.dist2, self.dist = views.rel, views.dist2, views.dist
        self.pos, self.vel, self.comm, self.extra = views.pos, views.vel, views.comm, views.extra
        self.force: Floats = np.zeros((2, count, num_envs))
        self.sizes: Floats = np.array([body.size for body in self.bodies])
        self._agent_pos = self.pos[:, :count]
        self._squares = np.empty_like(self.rel)
        self._change = np.empty_like(self.vel)
        movable = np.array([agent.movable for agent in agents])[:, None]
        self._drift = self._full(np.where(movable, DT, 0.0))
        self._keep = self._full(np.where(movable, 1 - DAMPING, 1.0))
        self._contacts = _Contacts(self)
        self.limit_agents(
            [DEFAULT_ACCEL if agent.accel is None else agent.accel for agent in agents],
            [np.inf if agent.max_speed is None else agent.max_speed for agent in agents],
        )

    def limit_agents(self, accel: Sequence[float] | Floats, max_speed: Sequence[float] | Floats) -> None:
        """Sets the force of each agent's move, and the speed it cannot exceed (infinite for any), `[N]` each."""
        self.accel, self.max_speed = np.array(accel, float), np.array(max_speed, float)
        self._limited = bool(np.isfinite(self.max_speed).any())

    def place(self, pos: Floats) -> None:
        """Puts the bodies at `pos [2, M, E]`, at rest and silent."""
        self.pos[...] = pos
        self.vel[...] = 0.0
        self.comm[...] = 0.0
        self.look()

    def step(self) -> None:
        """Moves the agents by `force`: along the old velocity first, then damping, then the push of this step."""
        self._contacts.push(self.force)
        np.multiply(self.vel, self._drift, out=self._change)
        np.add(self._agent_pos, self._change, out=self._agent_pos)
        np.multiply(self.vel, self._keep, out=self.vel)
        np.multiply(self.force, self._drift, out=self._change)
        np.add(self.vel, self._change, out=self.vel)
        if self._limited:
            self._limit_speed()
        self.look()

    def look(self) -> None:
        """Brings `rel`, `dist2` and `dist` up to date with the positions."""
        np.subtract(self.pos[:, None], self._agent_pos[:, :, None], out=self.rel)
        np.multiply(self.rel, self.rel, out=self._squares)
        np.add(self._squares[0], self._squares[1], out=self.dist2)
        np.sqrt(self.dist2, out=self.dist)

    def touching(self, agents: slice, bodies: slice) -> NDArray[np.bool_]:
        """Returns which agents overlap which bodies, `[agents, bodies, E]`; an agent overlaps itself."""
        reach = self.sizes[agents, None] + self.sizes[bodies]
        overlap: NDArray[np.bool_] = self.dist[agents, bodies] < reach[..., None]
        return overlap

    def _limit_speed(self) -> None:
        speed = np.sqrt(self.vel[0] * self.vel[0] + self.vel[1] * self.vel[1])  # [N, E]
        limit = self.max_speed[:, None]
        fast = speed > limit
        if fast.any():
            np.divide(self.vel, speed, out=self.vel, where=fast)
            np.multiply(self.vel, limit, out=self.vel, where=fast)

    def _full(self, values: NDArray[Any]) -> Floats:
        """Returns `values [N, 1]` for both axes and all copies: multiplying whole arrays beats broadcasting them."""
        return np.broadcast_to(values, self.vel.shape).copy()


class _Contacts:
    """Forces between overlapping bodies, computed only where two bodies are near each other.

    Each agent's forces are added in the order of the other bodies, as in mpe2, so that results agree to the last bit.
    """

    def __init__(self, world: World) -> None:
        bodies, agents, copies = world.bodies, world.agents, world.num_envs
        pairs = np.zeros((len(agents), len(bodies)), bool)
        for one, agent in enumerate(agents):
            for other, body in enumerate(bodies):
                pairs[one, other] = one != other and agent.movable and agent.collide and body.collide
        last = int(np.flatnonzero(pairs.any(0)).max(initial=-1)) + 1
        self.possible = last > 0
        touch = (world.sizes[: len(agents), None] + world.sizes[:last])[..., None]  # [N, last, 1]
        shape = (len(agents), last, copies)
        self._touch = np.broadcast_to(touch, shape).ravel()
        self._reach = np.where(pairs[:, :last, None], touch + REACH, -np.inf)
        agent, other, copy = np.indices(shape)
        self._target = (agent * copies + copy).ravel()  # cell of an agent in a plane of `force`
        self._source = ((agent * len(bodies) + other) * copies + copy).ravel()  # cell of a pair in `dist`
        self._near = np.empty(shape, bool)
        self._dist, self._pair_dist = world.dist[:, :last], world.dist.reshape(-1)
        self._pair_rel = world.rel.reshape(2, -1)

    def push(self, force: Floats) -> None:
        """Adds the contact forces to `force [2, N, E]`."""
        if not self.possible:
            return
        np.less(self._dist, self._reach, out=self._near)
        near = self._near.ravel().nonzero()[0]
        if not near.size:
            return
        source, target = self._source[near], self._target[near]
        dist = self._pair_dist[source]
        overlap = -(dist - self._touch[near]) / CONTACT_MARGIN
        depth = np.logaddexp(0.0, overlap) * CONTACT_MARGIN
        # two bodies at the very same point have no direction to part in: mpe2 makes them nan, here no force acts
        np.maximum(dist, np.finfo(float).tiny, out=dist)
        push = self._pair_rel[:, source] * -CONTACT_FORCE / dist * depth  # [2, near]
        np.add.at(force[0].reshape(-1), target, push[0])
        np.add.at(force[1].reshape(-1), target, push[1])


def _carve(rows: NDArray[Any], shapes: Mapping[str, tuple[int, ...]], extra: Mapping[str, tuple[int, ...]]) -> Views:
    """Cuts `rows` along its first axis into parts of the given shapes, which follow one another."""
    parts, start = [], 0
    for shape in [*shapes.values(), *extra.values()]:
        size = math.prod(shape)
        parts.append(rows[start : start + size].reshape(shape + rows.shape[1:]))
        start += size
    named = len(shapes)
    return Views(**dict(zip(shapes, parts[:named], strict=True)), extra=dict(zip(extra, parts[named:], strict=True)))
