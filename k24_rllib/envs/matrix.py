"""Matrix games, all copies at once: one table of payoffs, played again and again by agents that see nothing.

The games that show whether agents coordinate (climbing, penalty, stag hunt) and whether they can differ
(specialisation). Shapes: `E` copies, `N` agents, `U` actions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import check_choice, check_number
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.team_env import MOST_STEPS, TEAM_REWARDS, TeamEnv, TeamStep

Floats = NDArray[np.float64]
Payoff = Callable[[NDArray[np.int64]], Floats]
"""Maps joint actions `[E, N]` to what each agent gets, `[E, N]`."""

MOST_AGENTS = 1_000


class MatrixGame(TeamEnv):
    """A game of one table, played `max_cycles` times in an episode; an observation is the number 1.

    Args:
        num_envs: `E`.
        agents: `N`.
        actions: `U`.
        payoff: What each agent gets.
        random, best: Team payoff of a step, summed over agents: under uniformly random play, and at most.
        max_cycles: Steps of an episode.
        team_reward: `sum` or `mean` of the agents' payoffs.
    """

    def __init__(
        self,
        num_envs: int,
        agents: int,
        actions: int,
        payoff: Payoff,
        *,
        random: float,
        best: float,
        max_cycles: int = 10,
        team_reward: str = "sum",
    ) -> None:
        self.num_envs = int(check_number("num_envs", num_envs, low=1, integer=True))
        self.num_agents = self.num_mask_owners = agents
        self.num_actions = actions
        self.obs_dim, self.state_dim = 1, 1
        self.episode_limit = int(check_number("max_cycles", max_cycles, low=1, high=MOST_STEPS, integer=True))
        self.agent_names = tuple(f"agent_{index}" for index in range(agents))
        self._payoff = payoff
        self._share = 1.0 if check_choice("team_reward", team_reward, TEAM_REWARDS) == "sum" else 1.0 / agents
        scale = self.episode_limit * self._share
        self.score_reference = (random * scale, best * scale)
        self._avail = np.ones((self.num_envs, agents, actions), np.bool_)
        self._mask_ids = np.broadcast_to(np.arange(agents), (self.num_envs, agents))
        self._steps: int | None = None

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy; nothing is drawn, so the seed makes no difference."""
        self._steps = 0
        return self._team_step(np.zeros((self.num_envs, self.num_agents)))

    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Pays every copy for `actions [E, N]`; see `TeamEnv.step`."""
        if self._steps is None or self._steps == self.episode_limit:
            raise ValueError("step() without an episode that goes on, expected reset()")
        self.check_actions(actions, self._avail)
        self._steps += 1
        return self._team_step(self._payoff(actions))

    def _team_step(self, paid: Floats) -> TeamStep:
        over = self._steps == self.episode_limit
        return TeamStep(
            obs=np.ones((self.num_envs, self.num_agents, 1), np.float32),
            state=np.ones((self.num_envs, 1), np.float32),
            avail_actions=self._avail.copy(),
            mask_ids=self._mask_ids.copy(),
            team_reward=(paid.sum(1) * self._share).astype(np.float32),
            agent_rewards=paid.astype(np.float32),
            terminated=np.zeros(self.num_envs, np.bool_),
            truncated=np.full(self.num_envs, over, np.bool_),
        )


def specialisation(
    num_envs: int, *, agents: int = 4, actions: int | None = None, max_cycles: int = 10, team_reward: str = "mean"
) -> TeamEnv:
    """Makes the specialisation game (HyperMARL, arXiv 2412.04233): whoever shares an action shares its reward of 1.

    Args:
        num_envs: `E`.
        agents: Who play; all with actions of their own get 1 each, all with the same one get `1 / agents`.
        actions: How many there are, at least as many as agents; None means as many.
        max_cycles: Steps of an episode.
        team_reward: `mean` or `sum` of the agents' rewards; HyperMARL reports the mean of a step.
    """
    agents = int(check_number("agents", agents, low=2, high=MOST_AGENTS, integer=True))
    actions = int(check_number("actions", actions or agents, low=agents, high=MOST_AGENTS, integer=True))
    different = actions * (1.0 - (1.0 - 1.0 / actions) ** agents)  # expected of random play
    return MatrixGame(
        num_envs,
        agents,
        actions,
        _shared_by_action,
        random=different,
        best=float(agents),
        max_cycles=max_cycles,
        team_reward=team_reward,
    )


def _shared_by_action(actions: NDArray[np.int64]) -> Floats:
    same = actions[:, :, None] == actions[:, None, :]
    paid: Floats = 1.0 / same.sum(-1)
    return paid


def two_player(
    payoffs: tuple[Floats, Floats], num_envs: int, *, max_cycles: int = 10, team_reward: str = "mean"
) -> TeamEnv:
    """Makes a game of two agents from both tables of payoffs, `[U, U]` by the first's and the second's action."""
    first, second = payoffs
    both = first + second

    def payoff(actions: NDArray[np.int64]) -> Floats:
        cells = (actions[:, 0], actions[:, 1])
        return np.stack([first[cells], second[cells]], axis=1)

    return MatrixGame(
        num_envs,
        2,
        len(first),
        payoff,
        random=float(both.mean()),
        best=float(both.max()),
        max_cycles=max_cycles,
        team_reward=team_reward,
    )


CLIMBING = np.array([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])
"""Claus and Boutilier 1998: the best cell stands beside the worst."""
STAG_HUNT = np.array([[4.0, 1.0], [3.0, 2.0]])
"""The first's payoff: hunting the stag together pays most, hunting a hare alone is safe."""


def penalty_payoffs(penalty: float) -> Floats:
    """Returns the penalty game's table (Claus and Boutilier 1998): two best cells, each beside a `penalty`."""
    return np.array([[penalty, 0.0, 10.0], [0.0, 2.0, 0.0], [10.0, 0.0, penalty]])


def climbing(num_envs: int, *, max_cycles: int = 10, team_reward: str = "mean") -> TeamEnv:
    """Makes the climbing game; both agents get the same."""
    return two_player((CLIMBING, CLIMBING), num_envs, max_cycles=max_cycles, team_reward=team_reward)


def penalty_game(num_envs: int, *, penalty: float = -100.0, max_cycles: int = 10, team_reward: str = "mean") -> TeamEnv:
    """Makes the penalty game; both agents get the same, and `penalty` where they miss each other."""
    table = penalty_payoffs(check_number("penalty", penalty, low=-1e6, high=0.0))
    return two_player((table, table), num_envs, max_cycles=max_cycles, team_reward=team_reward)


def stag_hunt(num_envs: int, *, max_cycles: int = 10, team_reward: str = "mean") -> TeamEnv:
    """Makes the stag hunt."""
    return two_player((STAG_HUNT, STAG_HUNT.T), num_envs, max_cycles=max_cycles, team_reward=team_reward)


MATRIX_GAMES = {
    "matrix_specialisation": specialisation,
    "matrix_climbing": climbing,
    "matrix_penalty": penalty_game,
    "matrix_stag_hunt": stag_hunt,
}
"""Our name of each game."""

for _name, _game in MATRIX_GAMES.items():
    register_team_env(_name, _game)
