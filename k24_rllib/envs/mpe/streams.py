"""A random stream for each copy, drawn for all copies at once.

Shapes: `E` copies, `D` draws.

Draw `d` of episode `n` of copy `k` is a hash of `(seed, k, n, d)`, so neither the number of copies nor the order in
which they are drawn matters, and no generator objects need a loop. The hash is the finaliser of SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), applied once for each part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Streams:
    """Uniform draws for `num_envs` copies, episode after episode."""

    def __init__(self, num_envs: int) -> None:
        self._copies = np.arange(num_envs, dtype=np.uint64)
        self._episode = 0
        self._keys: NDArray[np.uint64] | None = None

    def draw(self, draws: int, seed: int | None = None) -> NDArray[np.float64]:
        """Returns uniform numbers in `[0, 1)`, `[D, E]`, for the next episode.

        Args:
            draws: `D`.
            seed: Starts the streams anew; None goes on with them, or starts them from fresh entropy.
        """
        if seed is not None or self._keys is None:
            root = np.random.SeedSequence(seed).generate_state(1, np.uint64)
            self._keys, self._episode = _mix(root, self._copies), 0
        episode = _mix(self._keys, np.array([self._episode], np.uint64))  # [E]
        self._episode += 1
        bits = _mix(episode, np.arange(draws, dtype=np.uint64)[:, None])  # [D, E]
        uniform: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return uniform


def _mix(key: NDArray[Any], part: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns the `part`-th output of the SplitMix64 generator whose state is `key`."""
    mixed = key + (part + np.uint64(1)) * GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result
