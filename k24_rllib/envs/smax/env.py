"""SMAX behind the team environment's interface: arrays of JAX in, arrays of NumPy out.

Shapes: `E` copies, `N` agents, `U` actions, `A` mask owners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.smax.battles import Board, battles
from k24_rllib.envs.team_env import TeamEnv, TeamStep, copy_seeds


class SmaxEnv(TeamEnv):
    """Copies of a map; see `make_smax`, which checks what is given here.

    The state is JaxMARL's own, scaled to about 0 to 1. Who is dead may only stop, and sees zeros.

    Args:
        num_envs: `E`.
        map_name: JaxMARL's name of the map.
        max_cycles: Steps of an episode; None means JaxMARL's 101.
        by_type: Whether units of one type share a mask owner.
        sum_rewards: Whether the team's reward is the agents' sum, and not their mean. All agents get the same.
        score_reference: See `TeamEnv`.
    """

    def __init__(
        self,
        num_envs: int,
        map_name: str,
        *,
        max_cycles: int | None = None,
        by_type: bool = False,
        sum_rewards: bool = False,
        score_reference: tuple[float, float] | None = None,
    ) -> None:
        self._battles = battles(map_name, num_envs)
        smax = self._battles.smax
        self.num_envs, self.num_agents = num_envs, smax.num_agents
        self.obs_dim, self.state_dim, self.num_actions = smax.obs_size, smax.state_size, smax.num_ally_actions
        # JaxMARL looks at the steps made before the one at hand, so its limit of 100 ends an episode after 101.
        self.episode_limit = smax.max_steps + 1 if max_cycles is None else max_cycles
        self.agent_names = tuple(smax.agents)
        self.score_reference = score_reference
        self._team_scale = np.float32(self.num_agents if sum_rewards else 1.0)
        drawn = smax.unit_type_bits if smax.smacv2_unit_type_generation else None
        types = np.asarray(smax.scenario)[: self.num_agents]
        self._owner_of_type = _owner_of_type(types, drawn) if by_type else None  # [types]
        self.num_mask_owners = self.num_agents if self._owner_of_type is None else int(self._owner_of_type.max()) + 1
        self._seeds: NDArray[np.uint32] | None = None  # [E]
        self._episode, self._steps = np.uint32(0), 0
        self._board: Board | None = None
        self._is_over = False
        self._available = np.zeros((num_envs, self.num_agents, self.num_actions), np.bool_)
        self._mask_ids = np.zeros((num_envs, self.num_agents), np.int64)

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new battle in every copy; see `TeamEnv.reset`.

        The `n`-th since a seed was given depends on that seed, the copy and `n`, not on what was played before.
        """
        if seed is not None or self._seeds is None:
            fresh = int(np.random.SeedSequence().generate_state(1)[0])
            self._seeds = np.array(copy_seeds(fresh if seed is None else seed, self.num_envs), np.uint32)
            self._episode = np.uint32(0)
        else:
            self._episode += np.uint32(1)
        self._board, self._steps = self._battles.reset(self._seeds, self._episode), 0
        self._mask_ids = self._owners(np.asarray(self._board.battle.state.unit_types))
        return self._team_step(self._board)

    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Steps every copy that is not done with `actions [E, N]`; see `TeamEnv.step`."""
        if self._board is None or self._is_over:
            raise ValueError("step() without an episode that goes on, expected reset()")
        self.check_actions(actions, self._available)
        self._board, self._steps = self._battles.step(self._board, actions.astype(np.int32)), self._steps + 1
        return self._team_step(self._board)

    def _owners(self, unit_types: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns the mask owners `[E, N]` of units `[E, M]`, whose types stay as they are within an episode."""
        if self._owner_of_type is None:
            return np.tile(np.arange(self.num_agents), (self.num_envs, 1))
        return self._owner_of_type[unit_types[:, : self.num_agents]]

    def _team_step(self, board: Board) -> TeamStep:
        """Returns what a board shows; views of JAX's arrays can't be written to, so they are copied, once."""
        obs, state, available, reward, terminated, won = (np.asarray(array) for array in board.seen)
        self._available = available
        is_late = self._steps == self.episode_limit
        self._is_over = is_late or bool(terminated.all())
        return TeamStep(
            obs=obs.copy(),
            state=state.copy(),
            avail_actions=available.copy(),
            mask_ids=self._mask_ids.copy(),
            team_reward=reward * self._team_scale,
            agent_rewards=np.repeat(reward[:, None], self.num_agents, axis=1),
            terminated=terminated.copy(),
            truncated=~terminated if is_late else np.zeros_like(terminated),
            won=won.copy(),
        )


def _owner_of_type(types: NDArray[np.integer], drawn: int | None) -> NDArray[np.int64]:
    """Returns the mask owner of each unit type, numbered without gaps.

    Args:
        types: Of the map's agents, `[N]`.
        drawn: How many types each episode draws the agents' from; None means that they are as the map says.
    """
    if drawn is not None:
        return np.arange(drawn)
    present = np.unique(types)
    owners = np.zeros(int(present.max()) + 1, np.int64)
    owners[present] = np.arange(len(present))
    return owners
