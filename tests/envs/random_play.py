"""Random play, for tests that step environments."""

from __future__ import annotations

import numpy as np


def random_actions(available: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns an available action of each agent, `[E, N]`, all as likely, from `available [E, N, U]`."""
    return np.where(available, rng.random(available.shape), -1.0).argmax(-1)
