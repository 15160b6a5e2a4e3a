"""Episodes as contiguous arrays: what a rollout worker writes, the replay buffer keeps and the learner reads.

Shapes: `E` episodes, `T` steps of the longest episode allowed, `N` agents, `O` observation size, `S` state size,
`U` actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EpisodeBatch:
    """`E` whole episodes, padded with zeros after their last step.

    Observations, states and available actions have `T + 1` entries: the last one is what the final step led to, which
    the target of a truncated episode bootstraps from.
    """

    obs: NDArray[np.float32]  # [E, T+1, N, O]
    state: NDArray[np.float32]  # [E, T+1, S]
    avail_actions: NDArray[np.bool_]  # [E, T+1, N, U]
    actions: NDArray[np.int64]  # [E, T, N]
    team_reward: NDArray[np.float32]  # [E, T]
    agent_rewards: NDArray[np.float32]  # [E, T, N]
    terminated: NDArray[np.bool_]  # [E, T], true only at a step that ended the episode for good (not a time limit)
    lengths: NDArray[np.int64]  # [E], steps taken
    mask_ids: NDArray[np.int64]  # [E, N], mask owner of each agent
    won: NDArray[np.int8]  # [E], 1 where the episode was won, 0 where it wasn't, -1 where the environment doesn't say
    opponents_share: Any = None  # float, of the rollout's time, where there are opponents; not kept for replay

    @classmethod
    def empty(cls, episodes: int, steps: int, agents: int, obs_dim: int, state_dim: int, actions: int) -> EpisodeBatch:
        """Returns zeroed arrays for `episodes` episodes of at most `steps` steps."""
        return cls(
            obs=np.zeros((episodes, steps + 1, agents, obs_dim), np.float32),
            state=np.zeros((episodes, steps + 1, state_dim), np.float32),
            avail_actions=np.zeros((episodes, steps + 1, agents, actions), np.bool_),
            actions=np.zeros((episodes, steps, agents), np.int64),
            team_reward=np.zeros((episodes, steps), np.float32),
            agent_rewards=np.zeros((episodes, steps, agents), np.float32),
            terminated=np.zeros((episodes, steps), np.bool_),
            lengths=np.zeros(episodes, np.int64),
            mask_ids=np.zeros((episodes, agents), np.int64),
            won=np.full(episodes, -1, np.int8),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> EpisodeBatch:
        """Returns the episodes of `arrays()`, as a saved replay buffer holds them.

        Older buffers lack `mask_ids`; agents are then their own owners, as they were unless an environment said
        otherwise. They lack `won` too, which nobody asks of them.
        """
        episodes, _, agents = arrays["actions"].shape
        absent: dict[str, NDArray[Any]] = {
            "mask_ids": np.tile(np.arange(agents), (episodes, 1)),
            "won": np.full(episodes, -1, np.int8),
        }
        return cls(**{**absent, **arrays})

    def __len__(self) -> int:
        """Returns the number of episodes."""
        return len(self.lengths)

    @property
    def count(self) -> int:
        """Environment steps, under the name RLlib uses."""
        return int(self.lengths.sum())

    def env_steps(self) -> int:
        """Returns the environment steps in all episodes."""
        return self.count

    def agent_steps(self) -> int:
        """Returns environment steps times agents."""
        return self.count * self.actions.shape[2]

    def valid(self) -> NDArray[np.bool_]:
        """Returns `[E, T]`, which steps were taken (the rest is padding)."""
        steps: NDArray[np.bool_] = np.arange(self.actions.shape[1]) < self.lengths[:, None]
        return steps

    def wins(self) -> NDArray[np.bool_] | None:
        """Returns `[E]`, which episodes were won, or None where the environment doesn't say."""
        return None if (self.won < 0).any() else self.won.astype(np.bool_)

    def arrays(self) -> dict[str, NDArray]:
        """Returns the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "opponents_share"}

    def take(self, rows: NDArray[np.int64]) -> EpisodeBatch:
        """Returns a copy of the episodes at `rows`."""
        return EpisodeBatch(**{name: array[rows] for name, array in self.arrays().items()})
