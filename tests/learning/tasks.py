"""Tasks so small that an algorithm which works learns them in seconds, and one that doesn't can't."""

from __future__ import annotations

import numpy as np

from k24_rllib.envs import TeamEnv, TeamStep

PLACES, MIDDLE = 5, 2


class Middle(TeamEnv):
    """Agents on a line of five places, each seeing its own, are paid 1 a step while all stand in the middle.

    Walking there and staying earns 9.2 of 10 steps on average; random play and every constant action earn less than 1.
    """

    def __init__(self, num_envs: int, agents: int = 2, steps: int = 10) -> None:
        self.num_envs, self.num_agents, self.episode_limit = num_envs, agents, steps
        self.num_mask_owners = agents
        self.obs_dim, self.state_dim, self.num_actions = PLACES, PLACES * agents, 3
        self._rng = np.random.default_rng()

    def reset(self, seed: int | None = None) -> TeamStep:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._steps = 0
        self._place = self._rng.integers(PLACES, size=(self.num_envs, self.num_agents))
        return self._result(np.zeros(self.num_envs))

    def step(self, actions: np.ndarray) -> TeamStep:
        self._steps += 1
        self._place = np.clip(self._place + actions - 1, 0, PLACES - 1)
        return self._result((self._place == MIDDLE).all(1).astype(float))

    def _result(self, reward: np.ndarray) -> TeamStep:
        seen = np.eye(PLACES, dtype=np.float32)[self._place]
        copies, agents = self._place.shape
        return TeamStep(
            obs=seen,
            state=seen.reshape(copies, -1).copy(),
            avail_actions=np.ones((copies, agents, 3), bool),
            mask_ids=np.tile(np.arange(agents), (copies, 1)),
            team_reward=reward.astype(np.float32),
            agent_rewards=np.repeat(reward[:, None] / agents, agents, 1).astype(np.float32),
            terminated=np.zeros(copies, bool),
            truncated=np.full(copies, self._steps >= self.episode_limit),
        )


class Trades(Middle):
    """Agents who start in the middle are paid 1 a step for standing at their trade's end of the line, -1 at the other.

    The trade is the agent's mask owner, drawn anew for each agent, copy and episode, and nobody sees it: what does not
    differ by owner earns 0 on average, and what does, 7 of the 8 steps for each agent (`2 * 7 = 14`).
    """

    def __init__(self, num_envs: int, agents: int = 2, steps: int = 8) -> None:
        super().__init__(num_envs, agents, steps)
        self.num_mask_owners = 2

    def reset(self, seed: int | None = None) -> TeamStep:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._steps = 0
        shape = (self.num_envs, self.num_agents)
        self._trade, self._place = self._rng.integers(2, size=shape), np.full(shape, MIDDLE)
        return self._result(np.zeros(self.num_envs))

    def step(self, actions: np.ndarray) -> TeamStep:
        self._steps += 1
        self._place = np.clip(self._place + actions - 1, 0, PLACES - 1)
        end = np.where(self._trade == 1, PLACES - 1, 0)
        earned = (self._place == end) * 1.0 - (self._place == PLACES - 1 - end)
        return self._result(earned.sum(1))

    def _result(self, reward: np.ndarray) -> TeamStep:
        step = super()._result(reward)
        step.mask_ids[:] = self._trade
        return step
