"""Episode replay on contiguous arrays.

The arrays are allocated once, when the first episodes arrive, and hold `capacity` episodes; older ones are overwritten.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.qmix.episodes import EpisodeBatch


class EpisodeReplayBuffer:
    """Keeps the last `capacity` episodes and draws batches of them uniformly.

    Args:
        capacity: Episodes kept. More keeps older, more varied play; memory grows with it.
        seed: Seed of the draws; None draws differently every time.
    """

    def __init__(self, capacity: int, seed: int | None = None) -> None:
        self.capacity = capacity
        self._rng = np.random.default_rng(seed)
        self._storage: EpisodeBatch | None = None
        self._next = 0
        self._size = 0

    def __len__(self) -> int:
        """Returns the number of episodes held."""
        return self._size

    def add(self, batch: EpisodeBatch) -> None:
        """Appends episodes, overwriting the oldest once full.

        Raises:
            ValueError: if the episodes' shapes differ from those held.
        """
        if len(batch) > self.capacity:
            batch = batch.take(np.arange(len(batch) - self.capacity, len(batch)))
        storage = self._storage if self._storage is not None else self._allocate(batch)
        rows = (self._next + np.arange(len(batch))) % self.capacity
        for name, array in storage.arrays().items():
            incoming = getattr(batch, name)
            if incoming.shape[1:] != array.shape[1:]:
                raise ValueError(f"{name}: the buffer holds {array.shape[1:]}, got {incoming.shape[1:]} an episode")
            array[rows] = incoming
        self._next = int((self._next + len(batch)) % self.capacity)
        self._size = min(self._size + len(batch), self.capacity)

    def sample(self, episodes: int) -> EpisodeBatch:
        """Draws `episodes` different episodes uniformly.

        Raises:
            ValueError: if fewer are held.
        """
        if self._storage is None or episodes > self._size:
            raise ValueError(f"asked for {episodes} episodes, the buffer holds {self._size}")
        return self._storage.take(self._rng.choice(self._size, episodes, replace=False))

    def get_state(self) -> dict[str, Any]:
        """Returns everything needed to go on drawing the same episodes."""
        held = self._storage.take(np.arange(self._size)).arrays() if self._storage is not None else None
        return {"episodes": held, "next": self._next, "rng": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        self._storage, self._next, self._size = None, 0, 0
        if state["episodes"] is not None:
            self.add(EpisodeBatch.from_arrays(state["episodes"]))
        self._next = state["next"]
        self._rng.bit_generator.state = state["rng"]

    def _allocate(self, batch: EpisodeBatch) -> EpisodeBatch:
        self._storage = EpisodeBatch(
            **{name: np.zeros((self.capacity, *array.shape[1:]), array.dtype) for name, array in batch.arrays().items()}
        )
        return self._storage
