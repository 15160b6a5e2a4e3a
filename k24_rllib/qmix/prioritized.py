"""Prioritised replay of whole episodes (Schaul et al. 2016, arXiv 1511.05952), the proportional variant.

Shapes: `B` episodes of a draw or an update, `L` levels of the tree below its root.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.qmix.buffer import EpisodeReplayBuffer
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.schedules import linear

FIRST_PRIORITY = 1.0
"""Priority of episodes added before any update (Schaul et al. 2016, algorithm 1: `p_1 = 1`)."""


class SumTree:
    """Values whose running sums are searched and changed in logarithmic time, many at once.

    A complete binary tree in one array: node `i` is the sum of nodes `2 i` and `2 i + 1`, node 1 that of everything,
    and the values are the last level. A node is always computed from its two children and never corrected by a
    difference, so the tree depends on its values alone: no error piles up, and equal values give equal trees.

    Args:
        capacity: Number of values, all 0 at first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._levels = max(capacity - 1, 0).bit_length()  # L
        self._first = 1 << self._levels  # the node of value 0
        self._nodes: NDArray[np.float64] = np.zeros(2 * self._first)

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self._nodes[1])

    @property
    def values(self) -> NDArray[np.float64]:
        """All values, `[capacity]`, to be read and not written."""
        return self._nodes[self._first : self._first + self.capacity]

    def update(self, indices: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Sets many values.

        Args:
            indices: `[B]`, each from 0 and below `capacity`. Of one that is there twice, the last value stays.
            values: `[B]`, from 0.
        """
        nodes = indices + self._first
        self._nodes[nodes] = values
        for _ in range(self._levels):
            nodes = nodes >> 1  # the parents, one twice where both children changed
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, sums: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns, for each of `sums [B]`, the index `[B]` of the value in which the running sum exceeds it.

        So a number drawn uniformly from 0 to `total` finds an index as often as its value's share. A value of 0 is
        never found, not even where rounding takes a sum past its share of the tree.

        Args:
            sums: From 0 to `total`, which must be above 0.
        """
        rest = np.array(sums, np.float64)
        nodes = np.ones(len(rest), np.int64)
        for _ in range(self._levels):
            left = self._nodes[2 * nodes]
            right = (rest >= left) & (self._nodes[2 * nodes + 1] > 0.0)
            rest -= np.where(right, left, 0.0)
            nodes = 2 * nodes + right
        return nodes - self._first


class PrioritizedEpisodeReplayBuffer(EpisodeReplayBuffer):
    """Keeps the last `capacity` episodes and draws those more often whose TD errors were large.

    An episode is drawn with probability `P(i) = p_i^alpha / sum_k p_k^alpha` (Schaul et al. 2016, equation 1), `p_i`
    its priority when it was last learned from. New episodes have the largest priority seen so far, so that each is
    likely to be learned from soon. One episode may be drawn twice for one update, as in the paper: without replacement
    its probability would no longer be `P(i)`, which the importance weights undo.

    Args:
        capacity: Episodes kept, as in the uniform buffer.
        seed: Seed of the draws, or their stream; None draws differently every time.
        alpha: How much priorities count. 0 draws uniformly, 1 in proportion to TD errors, which replays a few episodes
            very often.
        beta_initial: How much of the bias that this brings the importance weights undo at the start.
        beta_final: The same at the end; 1 undoes all of it.
        beta_timesteps: Environment steps over which beta moves linearly from one to the other.
        epsilon: Added to every priority, above 0. Larger keeps episodes in play whose errors have become small.

    Attributes:
        beta: Exponent of the importance weights as it stands; see `anneal`.
        max_priority: Largest priority seen so far.
    """

    def __init__(
        self,
        capacity: int,
        seed: int | np.random.SeedSequence | None = None,
        *,
        alpha: float,
        beta_initial: float,
        beta_final: float,
        beta_timesteps: int,
        epsilon: float,
    ) -> None:
        super().__init__(capacity, seed)
        self._alpha, self._epsilon = alpha, epsilon
        self._beta_schedule = (beta_initial, beta_final, beta_timesteps)
        self.beta = beta_initial
        self.max_priority = FIRST_PRIORITY
        self._priorities: NDArray[np.float64] = np.zeros(capacity)  # before alpha, for checkpoints
        self._tree = SumTree(capacity)  # of p_i^alpha; 0 where no episode is held

    def add(self, batch: EpisodeBatch) -> NDArray[np.int64]:
        """Appends episodes with the largest priority seen so far, overwriting the oldest once full."""
        rows = super().add(batch)
        self._set_priorities(rows, np.full(len(rows), self.max_priority))
        return rows

    def anneal(self, env_steps: int) -> None:
        """Sets beta to where it is after `env_steps` environment steps."""
        self.beta = linear(env_steps, *self._beta_schedule)

    def update_priorities(self, indices: NDArray[np.int64], priorities: NDArray[np.floating]) -> None:
        """Sets the priorities of episodes after an update that learned from them.

        Args:
            indices: `[B]`, of the draw; of an episode that is there twice, the last priority stays.
            priorities: `[B]`, from 0: their mean absolute TD errors.

        Raises:
            ValueError: if a priority is below 0 or no number, or an index is not that of an episode held.
        """
        possible = np.isfinite(priorities) & (priorities >= 0.0)
        if not possible.all():
            wrong = float(priorities[~possible][0])
            raise ValueError(f"priorities: got {wrong}, expected finite TD errors: has training diverged?")
        if len(indices) and (indices.min() < 0 or indices.max() >= self._size):
            raise ValueError(f"indices: got {indices.min()} to {indices.max()}, the buffer holds {self._size} episodes")
        raised = priorities.astype(np.float64) + self._epsilon  # Schaul et al. 2016, section 3.3: p_i = |delta_i| + eps
        self._set_priorities(indices, raised)
        self.max_priority = max(self.max_priority, float(raised.max(initial=0.0)))

    def _set_priorities(self, rows: NDArray[np.int64], priorities: NDArray[np.float64]) -> None:
        self._priorities[rows] = priorities
        self._tree.update(rows, priorities**self._alpha)

    def _draw(self, episodes: int) -> NDArray[np.int64]:
        """Draws one episode from each of `B` equal parts of the sum (Schaul et al. 2016, appendix B.2.1).

        Each is drawn as often on average as with independent draws, and batches vary less.
        """
        parts = np.arange(episodes) + self._rng.random(episodes)
        return self._tree.find(parts * (self._tree.total / episodes))

    def _weights(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns `w_i = (size * P(i))^-beta / max_j w_j` (Schaul et al. 2016, section 3.4 and algorithm 1).

        The maximum is over all episodes held and not over those drawn, so an episode's weight does not depend on its
        company, and with a beta of 1 updates are unbiased but for a common factor. `size` and the sum of priorities
        are in both and cancel.
        """
        values = self._tree.values
        weights = (values[indices] / values[: self._size].min()) ** -self.beta
        return weights.astype(np.float32)

    def get_state(self) -> dict[str, Any]:
        """Returns everything needed to go on drawing the same episodes; the tree is made anew from the priorities."""
        return {
            **super().get_state(),
            "priorities": self._priorities[: self._size].copy(),
            "max_priority": self.max_priority,
            "beta": self.beta,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned; a uniform buffer's episodes are as if they were new."""
        self._tree = SumTree(self.capacity)
        self._priorities[:] = 0.0
        self.max_priority = state.get("max_priority", FIRST_PRIORITY)
        self.beta = state.get("beta", self.beta)
        super().set_state(state)
        if "priorities" in state and self._size:
            kept = self._rows_to_keep(len(state["priorities"]), state["next"])
            self._set_priorities(np.arange(self._size), state["priorities"][kept])
