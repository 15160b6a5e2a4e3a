"""Where to push: the move after which an agent is where it wants to be, for scripts.

Shapes: `...` whatever the caller has, agents and copies; the last axis is x and y.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.actions import MOVES
from k24_rllib.envs.mpe.world import DAMPING, DT, Floats

Actions = NDArray[np.int64]


def moved(velocity: Floats, accel: Floats | float) -> Floats:
    """Returns how far each of the five moves takes agents in two steps, `[..., 5, 2]`.

    Args:
        velocity: `[..., 2]`.
        accel: Force of a move, a number or `[...]`.
    """
    push = np.asarray(accel)[..., None, None] * MOVES.T * DT  # [..., 5, 2], on the velocity
    keep = 1 - DAMPING
    after = velocity[..., None, :] * keep + push
    way: Floats = DT * (after + keep * after)
    return way


def towards(goal: Floats, velocity: Floats, accel: Floats | float = 5.0) -> Actions:
    """Returns the moves `[...]` that bring agents nearest to `goal [..., 2]`, as seen from where they are."""
    gaps = np.linalg.norm(goal[..., None, :] - moved(velocity, accel), axis=-1)
    nearest: Actions = gaps.argmin(-1)
    return nearest
