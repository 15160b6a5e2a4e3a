"""The batched team environment: `E` copies of one environment stepped together, arrays in, arrays out.

Shapes: `E` copies, `N` agents, `A` mask owners, `O` observation size, `S` state size, `U` actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError

TEAM_REWARDS = ("sum", "mean")
"""How the agents' rewards may make the team's."""


@dataclass(frozen=True, slots=True)
class TeamStep:
    """What a reset or a step of all copies gives. The arrays are the caller's: later steps do not touch them."""

    obs: NDArray[np.float32]  # [E, N, O]
    state: NDArray[np.float32]  # [E, S]
    avail_actions: NDArray[np.bool_]  # [E, N, U]
    mask_ids: NDArray[np.int64]  # [E, N], mask owner of each agent, fixed within an episode
    team_reward: NDArray[np.float32]  # [E]
    agent_rewards: NDArray[np.float32]  # [E, N]
    terminated: NDArray[np.bool_]  # [E], ended for good: there is no return to come
    truncated: NDArray[np.bool_]  # [E], cut off by a time limit: learning bootstraps
    won: NDArray[np.bool_] | None = None  # [E], episodes won so far; None where winning is unknown

    @property
    def form(self) -> tuple[Any, ...]:
        """Shapes and types of what is written down of each step; equal forms need no other look."""
        return (
            self.obs.shape,
            self.obs.dtype,
            self.state.shape,
            self.state.dtype,
            self.avail_actions.shape,
            self.avail_actions.dtype,
            self.team_reward.shape,
            self.team_reward.dtype,
            self.agent_rewards.shape,
            self.agent_rewards.dtype,
            self.terminated.shape,
            self.terminated.dtype,
            self.truncated.shape,
            self.truncated.dtype,
            None if self.won is None else (self.won.shape, self.won.dtype),
        )

    @property
    def done(self) -> NDArray[np.bool_]:
        """Copies whose episode is over, `[E]`."""
        return self.terminated | self.truncated


MOST_STEPS = 1_000_000
"""Of an episode: all of them are kept, whole."""


class TeamEnv(ABC):
    """Copies of a cooperative environment with discrete actions, stepped in lockstep, one whole episode at a time.

    A copy whose episode is over stays at its last observation, with reward 0 and its flags set, until all copies are
    reset together. Subclasses set the attributes and write `reset` and `step`.

    Attributes:
        num_envs: `E`.
        num_agents: `N`.
        obs_dim: `O`, padded to the largest agent's.
        state_dim: `S`.
        num_actions: `U`, padded to the largest agent's.
        num_mask_owners: `A`, number of mask owners: `mask_ids` are 0 to `A - 1`, and may differ between copies and
            episodes.
        episode_limit: Most steps of an episode.
        agent_names: Names of the agents.
        score_reference: Team returns of a random and of a good scripted policy, the 0 and 1 of the score; None if
            nobody measured them.
        opponents_s: Seconds that opponents in the environment have taken to decide, so far; None where there are none.
    """

    num_envs: int
    num_agents: int
    obs_dim: int
    state_dim: int
    num_actions: int
    num_mask_owners: int
    episode_limit: int
    agent_names: tuple[str, ...] = ()
    score_reference: tuple[float, float] | None = None
    opponents_s: float | None = None

    @abstractmethod
    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy.

        Args:
            seed: Each copy gets its own stream drawn from it; the same seed gives the same episodes. None goes on
                with the streams as they are. Training gives a new one for every episode.
        """

    @abstractmethod
    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Steps every copy that is not done with `actions [E, N]`.

        Raises:
            ValueError: if the shape is wrong, an action is not available, or all copies are done.
        """

    def render(self, copy: int = 0) -> NDArray[np.uint8] | None:
        """Returns a picture of one copy as it stands, `[height, width, 3]`; None where there is none."""
        return None

    def close(self) -> None:  # noqa: B027
        """Releases what the environment holds; most hold nothing."""

    def check_actions(self, actions: NDArray[np.int64], available: NDArray[np.bool_]) -> None:
        """Checks `actions [E, N]` against `available [E, N, U]`.

        Raises:
            ValueError: naming the shape expected, or the copy, agent and action that cannot be taken.
        """
        expected = (self.num_envs, self.num_agents)
        if actions.shape != expected or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(f"actions: got {actions.dtype} {list(actions.shape)}, expected integers {list(expected)}")
        if actions.min() >= 0 and actions.max() < self.num_actions:  # as almost always: the rest takes longer
            rows = np.arange(0, available.size, self.num_actions).reshape(expected)
            if available.reshape(-1)[rows + actions].all():
                return
        inside = (actions >= 0) & (actions < self.num_actions)
        safe = np.where(inside, actions, 0)[..., None]
        possible = inside & np.take_along_axis(available, safe, -1)[..., 0]
        if not possible.all():
            copy, agent = np.argwhere(~possible)[0]
            options = np.flatnonzero(available[copy, agent]).tolist()
            raise ValueError(
                f"actions: copy {copy}, agent {agent}: got {actions[copy, agent]}, expected one of {options}"
            )

    def check_goes_on(self, last: TeamStep | None) -> TeamStep:
        """Returns the last step, after which another can follow.

        Raises:
            ValueError: if there was none, or all copies are done.
        """
        if last is None:
            raise ValueError("step() before reset()")
        if last.done.all():
            raise ValueError("step() after every copy's episode is over, expected reset()")
        return last

    def check_first_step(self, step: TeamStep) -> None:
        """Checks everything that a reset gave, once for a new environment: shapes, types, and mask owners.

        Raises:
            ConfigError: naming the first that has no use, and what was expected.
        """
        self.check_arrays(step, f"{type(self).__name__}.reset: ")
        self.check_mask_ids(step.mask_ids)
        if not step.avail_actions.any(-1).all():
            copy, agent = np.argwhere(~step.avail_actions.any(-1))[0]
            raise ConfigError(f"avail_actions: copy {copy}, agent {agent}: got none, expected at least one action")

    def check_arrays(self, step: TeamStep, place: str = "") -> None:
        """Checks the shapes and types of all but the mask owners.

        Raises:
            ConfigError: naming the first that is another than the environment's attributes say; begins with `place`.
        """
        copies, agents = self.num_envs, self.num_agents
        shapes: dict[str, tuple[int, ...]] = {
            "obs": (copies, agents, self.obs_dim),
            "state": (copies, self.state_dim),
            "avail_actions": (copies, agents, self.num_actions),
            "team_reward": (copies,),
            "agent_rewards": (copies, agents),
            "terminated": (copies,),
            "truncated": (copies,),
        }
        if step.won is not None:
            shapes["won"] = (copies,)
        types = dict.fromkeys(("avail_actions", "terminated", "truncated", "won"), np.bool_)
        for name, shape in shapes.items():
            array, wanted = getattr(step, name), np.dtype(types.get(name, np.float32))
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != wanted:
                got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
                raise ConfigError(
                    f"{place}{name}: got {got}, expected {wanted} {list(shape)} (num_envs, num_agents and sizes are "
                    "the environment's own attributes)"
                )

    def check_mask_ids(self, mask_ids: NDArray[np.int64]) -> None:
        """Checks the mask owners `[E, N]` that a reset gave.

        Raises:
            ConfigError: naming the type and shape expected, or the copy, agent and owner that cannot be.
        """
        expected = (self.num_envs, self.num_agents)
        if mask_ids.shape != expected or mask_ids.dtype != np.int64:
            raise ConfigError(f"mask_ids: got {mask_ids.dtype} {list(mask_ids.shape)}, expected int64 {list(expected)}")
        outside = (mask_ids < 0) | (mask_ids >= self.num_mask_owners)
        if outside.any():
            copy, agent = np.argwhere(outside)[0]
            raise ConfigError(
                f"mask_ids: copy {copy}, agent {agent}: got {mask_ids[copy, agent]}, expected 0 to "
                f"{self.num_mask_owners - 1} (num_mask_owners {self.num_mask_owners})"
            )

    def check_mask_ids_stay(self, before: NDArray[np.int64], now: NDArray[np.int64]) -> None:
        """Checks that a step left the mask owners of an episode as they were, both `[E, N]`.

        Raises:
            ConfigError: naming a copy, agent and owner that changed.
        """
        if np.array_equal(before, now):
            return
        if before.shape != now.shape:
            raise ConfigError(f"mask_ids: got shape {list(now.shape)} from a step, expected {list(before.shape)}")
        copy, agent = np.argwhere(before != now)[0]
        raise ConfigError(
            f"mask_ids: copy {copy}, agent {agent}: got {now[copy, agent]} after {before[copy, agent]} in one episode, "
            "expected the same: mask owners change at a reset alone"
        )


def copy_seeds(seed: int, num_envs: int) -> list[int]:
    """Returns a seed for each copy, drawn from one, so that neither copies nor neighbouring seeds overlap."""
    return [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(num_envs)]
