"""Running mean and variance of rewards, so that one learning rate fits environments of any reward scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class RunningMoments:
    """Mean and variance over everything seen, merged batch by batch (Chan et al. 1979, equations 2.1)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._sum_squares = 0.0

    @property
    def std(self) -> float:
        """Standard deviation; 1 until two values that differ were seen."""
        variance = self._sum_squares / self.count if self.count else 0.0
        return variance**0.5 if variance > 0.0 else 1.0

    def update(self, values: NDArray[np.float32]) -> None:
        """Adds `values` of any shape."""
        if values.size == 0:
            return
        batch = values.astype(np.float64)
        mean, total = float(batch.mean()), self.count + batch.size
        delta = mean - self.mean
        self._sum_squares += float(((batch - mean) ** 2).sum()) + delta**2 * self.count * batch.size / total
        self.mean += delta * batch.size / total
        self.count = total

    def standardise(self, rewards: Tensor) -> Tensor:
        """Returns `(rewards - mean) / std`."""
        return (rewards - self.mean) / self.std

    def get_state(self) -> dict[str, float]:
        """Returns the statistics."""
        return {"count": self.count, "mean": self.mean, "sum_squares": self._sum_squares}

    def set_state(self, state: dict[str, float]) -> None:
        """Takes over what `get_state` returned."""
        self.count, self.mean = int(state["count"]), state["mean"]
        self._sum_squares = state["sum_squares"]
