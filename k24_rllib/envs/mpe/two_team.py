"""One side of a two-team scenario as a team to train, against opponents that the environment plays.

Shapes: `E` copies, `N` agents of the side, `M` opponents, `O` observation size, `S` state size, `U` actions.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice, nearest
from k24_rllib.envs.mpe.engine import BatchedMPE
from k24_rllib.envs.mpe.scripts import SCRIPTS
from k24_rllib.envs.mpe.streams import Streams
from k24_rllib.envs.team_env import TEAM_REWARDS, TeamEnv, TeamStep

TEAMS = ("adversaries", "good")
_ADVERSARIES = ("adversary", "leadadversary", "eve")
Actions = NDArray[np.int64]


class Opponents(ABC):
    """Whoever plays the other side, in all copies at once."""

    def begin(self, env: TwoTeamMPE, seed: int | None) -> None:  # noqa: B027
        """Is told of a new episode in every copy."""

    @abstractmethod
    def act(self, env: TwoTeamMPE) -> Actions:
        """Returns the opponents' actions `[E, M]`.

        Args:
            env: Whose `opponents` they are; `what_opponents_see` shows what they may know.
        """


class Still(Opponents):
    """They do nothing, and say the first of all messages."""

    def act(self, env: TwoTeamMPE) -> Actions:
        """Returns zeros."""
        return np.zeros((env.num_envs, len(env.opponents)), np.int64)


class Random(Opponents):
    """They take any available action, each as likely."""

    def __init__(self) -> None:
        self._streams: Streams | None = None

    def begin(self, env: TwoTeamMPE, seed: int | None) -> None:
        """Draws the episode's actions, each copy from a stream of its own."""
        if self._streams is None:
            self._streams = Streams(env.num_envs)
        others = len(env.opponents)
        uniform = self._streams.draw(env.episode_limit * others, None if seed is None else seed ^ 0x0DD5)
        self._uniform = uniform.reshape(env.episode_limit, others, env.num_envs)
        self._steps = 0

    def act(self, env: TwoTeamMPE) -> Actions:
        """Returns the actions drawn for this step."""
        counts = env.engine.action_counts[env.opponents]  # [M]; all of them are available at every step
        drawn: Actions = (self._uniform[self._steps].T * counts).astype(np.int64)
        self._steps += 1
        return drawn


class Scripted(Opponents):
    """They follow the scenario's script; see `k24_rllib.envs.mpe.scripts`."""

    def act(self, env: TwoTeamMPE) -> Actions:
        """Returns what the script of the other side says."""
        other = TEAMS[1 - TEAMS.index(env.team)]
        return SCRIPTS[env.engine.name][other](env.engine.scenario, env.opponents, env.side)


SELF = "self"
OPPONENTS: dict[str, Callable[[], Opponents]] = {
    "random": Random,
    "still": Still,
    "scripted": Scripted,
    SELF: Scripted,
}
"""By the name that `opponents:` takes. `self` is the other side as it learns at the same time: the algorithm has the
environment face it. Where none does, as in evaluations, the script plays, so that returns can be compared over time."""


PUBLISHED = "trained"
"""The name of the opponents that come with this package, trained once and frozen."""
TRAINED = "k24_rllib.qmix.opponents"
"""The module of a trained team, by name, because it stands on a floor above this one."""


def _made(opponents: object, env: TwoTeamMPE) -> Opponents:
    """Returns whoever `opponents:` names: one of `OPPONENTS`, or a team that was trained, published or a checkpoint's.

    Raises:
        ConfigError: for who isn't known, and as `k24_rllib.qmix.opponents` does.
    """
    if isinstance(opponents, str) and opponents in OPPONENTS:
        return OPPONENTS[opponents]()
    trained: Opponents
    if opponents == PUBLISHED:
        trained = import_module(TRAINED).TrainedTeam.published(env)
        return trained
    if isinstance(opponents, str) and (os.sep in opponents or Path(opponents).exists()):
        trained = import_module(TRAINED).TrainedTeam(opponents)
        return trained
    names = (*OPPONENTS, PUBLISHED)
    raise ConfigError(
        f"opponents: got {opponents!r}, expected {', '.join(names)} or a checkpoint's path{nearest(opponents, names)}"
    )


class TwoTeamMPE(TeamEnv):
    """One side of a two-team scenario.

    An agent's observation is its own in the scenario, the state all agents' observations, and the team's reward the sum
    (or mean) of the side's own rewards. Opponents are part of the environment: they see what they see in the scenario.

    Args:
        scenario: One of `TWO_TEAM`.
        num_envs: `E`.
        team: Which side learns, `adversaries` or `good`.
        opponents: Who plays the other side: one of `OPPONENTS`; `trained`, the team that is published with this
            package for this scenario and these sizes; or the path of a checkpoint (or of a file of weights) of a team
            that was trained as the other side. A trained team plays greedily and learns nothing.
        team_reward: `sum` or `mean`.
        **options: The scenario's own, and `max_cycles`.

    Attributes:
        side: The side's agents, as the scenario numbers them.
        opponents: The others.
        opponents_s: Seconds that the opponents have taken to decide, so far.

    Raises:
        ConfigError: naming an unknown side, opponent or option.
    """

    def __init__(
        self,
        scenario: str,
        num_envs: int,
        *,
        team: str = "good",
        opponents: str = "scripted",
        team_reward: str = "sum",
        **options: Any,
    ) -> None:
        self.team: str = check_choice("team", team, TEAMS)
        self._mean = check_choice("team_reward", team_reward, TEAM_REWARDS) == "mean"
        self.engine = BatchedMPE(scenario, num_envs, **options)
        adversary = np.array([name.startswith(_ADVERSARIES) for name in self.engine.agent_names])
        mine = adversary if team == "adversaries" else ~adversary
        self.side, self.opponents = np.flatnonzero(mine).tolist(), np.flatnonzero(~mine).tolist()
        self.num_envs, self.episode_limit = self.engine.num_envs, self.engine.episode_limit
        self.agent_names = tuple(self.engine.agent_names[agent] for agent in self.side)
        self.num_agents = self.num_mask_owners = len(self.side)
        self.obs_dim = int(self.engine.obs_sizes[self.side].max())
        self.num_actions = int(self.engine.action_counts[self.side].max())
        self.opponent_sizes = tuple(
            int(sizes[self.opponents].max()) for sizes in (self.engine.obs_sizes, self.engine.action_counts)
        )  # numbers in an observation, actions
        self.state_dim = self.engine.state_dim
        self._opponents = _made(opponents, self)
        self._last: TeamStep | None = None
        self._earned = np.zeros((2, self.num_envs))
        self.opponents_s: float = 0.0

    def face(self, opponents: Opponents) -> None:
        """Has others play the other side, from the next reset on."""
        self._opponents = opponents

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy; see `TeamEnv.reset`."""
        self._last = self.engine.reset(seed)
        self._earned[:] = 0.0
        with self._timed():
            self._opponents.begin(self, seed)
        return self._of_the_side(self._last)

    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Steps every copy with `actions [E, N]` of the side and the opponents' own; see `TeamEnv.step`."""
        if self._last is None:
            raise ValueError("step() before reset()")
        actions = np.asarray(actions)
        self.check_actions(actions, self._last.avail_actions[:, self.side, : self.num_actions])
        everybody = np.empty((self.num_envs, self.engine.num_agents), np.int64)
        everybody[:, self.side] = actions
        with self._timed():
            everybody[:, self.opponents] = self._opponents.act(self)
        self._last = self.engine.step(everybody)
        for side, agents in enumerate((self.side, self.opponents)):
            self._earned[side] += self._last.agent_rewards[:, agents].mean(1)
        return self._of_the_side(self._last)

    def margins(self) -> NDArray[np.float64]:
        """Returns each copy's return of the side less that of the opponents, since the reset, `[E]`.

        Both are means over agents, so that neither counts more for being many.
        """
        margins: NDArray[np.float64] = self._earned[0] - self._earned[1]
        return margins

    def render(self, copy: int = 0) -> NDArray[np.uint8]:
        """Returns a picture of one copy, with both sides; see `BatchedMPE.render`."""
        return self.engine.render(copy)

    def what_opponents_see(self) -> TeamStep:
        """Returns the opponents' part of the last step, as if they were the team.

        Raises:
            ValueError: before the first reset.
        """
        if self._last is None:
            raise ValueError("what_opponents_see() before reset()")
        return self._of(self._last, self.opponents, *self.opponent_sizes)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Adds what a block takes to the time of the opponents."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.opponents_s += time.perf_counter() - began

    def _of_the_side(self, step: TeamStep) -> TeamStep:
        return self._of(step, self.side, self.obs_dim, self.num_actions)

    def _of(self, step: TeamStep, agents: list[int], obs_dim: int, actions: int) -> TeamStep:
        """Returns what a side sees and earns."""
        rewards = step.agent_rewards[:, agents]
        return TeamStep(
            obs=np.ascontiguousarray(step.obs[:, agents, :obs_dim]),
            state=step.state,
            avail_actions=np.ascontiguousarray(step.avail_actions[:, agents, :actions]),
            mask_ids=np.broadcast_to(np.arange(len(agents)), rewards.shape).copy(),
            team_reward=rewards.mean(1) if self._mean else rewards.sum(1),
            agent_rewards=rewards,
            terminated=step.terminated,
            truncated=step.truncated,
        )
