"""Episode replay on contiguous arrays.

The arrays are allocated once, when the first episodes arrive, and hold `capacity` episodes; older ones are overwritten.

Shapes: `E` episodes that are added, `B` episodes of a draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.qmix.episodes import EpisodeBatch


@dataclass(frozen=True, slots=True)
class ReplaySample:
    """Episodes drawn for an update, and where they came from."""

    episodes: EpisodeBatch
    indices: NDArray[np.int64]  # [B], the buffer's rows; they name these episodes until others are added
    weights: NDArray[np.float32] | None = None  # [B], importance weights; None where all are 1


class EpisodeReplayBuffer:
    """Keeps the last `capacity` episodes and draws batches of them uniformly.

    A subclass says how episodes are drawn (`_draw`) and weighted (`_weights`); storage and checkpoints are here.

    Args:
        capacity: Episodes kept. More keeps older, more varied play; memory grows with it.
        seed: Seed of the draws, or their stream; None draws differently every time.
    """

    def __init__(self, capacity: int, seed: int | np.random.SeedSequence | None = None) -> None:
        self.capacity = capacity
        self._rng = np.random.default_rng(seed)
        self._storage: EpisodeBatch | None = None
        self._next = 0
        self._size = 0

    def __len__(self) -> int:
        """Returns the number of episodes held."""
        return self._size

    def nbytes(self) -> int:
        """Returns the bytes of all episodes that fit, 0 before the first came."""
        return 0 if self._storage is None else sum(array.nbytes for array in self._storage.arrays().values())

    def add(self, batch: EpisodeBatch) -> NDArray[np.int64]:
        """Appends episodes, overwriting the oldest once full.

        Returns:
            The rows that they are in now, `[E]`, or fewer if more than `capacity` were given: the last ones.

        Raises:
            ValueError: if the episodes' shapes differ from those held.
        """
        if len(batch) > self.capacity:
            batch = batch.take(np.arange(len(batch) - self.capacity, len(batch)))
        storage = self._storage if self._storage is not None else self._allocate(batch)
        rows: NDArray[np.int64] = (self._next + np.arange(len(batch))) % self.capacity
        for name, array in storage.arrays().items():
            incoming = getattr(batch, name)
            if incoming.shape[1:] != array.shape[1:]:
                raise ValueError(f"{name}: the buffer holds {array.shape[1:]}, got {incoming.shape[1:]} an episode")
            array[rows] = incoming
        self._next = int((self._next + len(batch)) % self.capacity)
        self._size = min(self._size + len(batch), self.capacity)
        return rows

    def sample(self, episodes: int) -> ReplaySample:
        """Draws `episodes` episodes, here different ones and each with the same probability.

        Raises:
            ValueError: if fewer are held.
        """
        if self._storage is None or episodes > self._size:
            raise ValueError(f"asked for {episodes} episodes, the buffer holds {self._size}")
        indices = self._draw(episodes)
        return ReplaySample(self._storage.take(indices), indices, self._weights(indices))

    def _draw(self, episodes: int) -> NDArray[np.int64]:
        """Returns the rows of a draw, `[B]`."""
        return self._rng.choice(self._size, episodes, replace=False)

    def _weights(self, indices: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Returns the importance weights of a draw, `[B]`, or None where all are 1."""
        return None

    def anneal(self, env_steps: int) -> None:
        """Moves what changes over training to where it is after `env_steps` environment steps; here nothing does."""

    def update_priorities(self, indices: NDArray[np.int64], priorities: NDArray[np.floating]) -> None:
        """Takes what an update found out about the episodes that it drew; draws that are uniform need none of it.

        Args:
            indices: `[B]`, of the draw (`ReplaySample.indices`), before other episodes were added.
            priorities: `[B]`, from 0.
        """

    @property
    def draws(self) -> dict[str, Any]:
        """State of the stream from which episodes are drawn."""
        return dict(self._rng.bit_generator.state)

    @draws.setter
    def draws(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state

    def get_state(self) -> dict[str, Any]:
        """Returns everything needed to go on drawing the same episodes."""
        held = self._storage.take(np.arange(self._size)).arrays() if self._storage is not None else None
        return {"episodes": held, "next": self._next, "rng": self.draws}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned; of a larger buffer, the newest episodes that fit."""
        self._storage, self._next, self._size = None, 0, 0
        self.draws = state["rng"]
        if state["episodes"] is None:
            return
        episodes = EpisodeBatch.from_arrays(state["episodes"])
        self.add(episodes.take(self._rows_to_keep(len(episodes), state["next"])))
        if len(episodes) == self.capacity:
            self._next = state["next"] % self.capacity

    def _rows_to_keep(self, held: int, following: int) -> NDArray[np.int64]:
        """Returns which rows of a saved buffer to take over, in their new order.

        A full buffer of the same size keeps its rows, so that the same draws are the same episodes. In one of another
        size they are put in order of age, the oldest first: what is overwritten next is then the oldest again.

        Args:
            held: Episodes in the saved buffer.
            following: Its row to be written next; in a full one, that of the oldest episode.
        """
        if held == self.capacity:
            return np.arange(held)
        by_age: NDArray[np.int64] = (following + np.arange(held)) % max(held, 1)
        return by_age[-self.capacity :]

    def _allocate(self, batch: EpisodeBatch) -> EpisodeBatch:
        self._storage = EpisodeBatch(
            **{name: np.zeros((self.capacity, *array.shape[1:]), array.dtype) for name, array in batch.arrays().items()}
        )
        return self._storage
