"""What agents pay for leaving the field in the two chasing scenarios."""

from __future__ import annotations

import numpy as np

from k24_rllib.envs.mpe.world import Floats

EDGE, LIMIT = 0.9, 10.0


def boundary_cost(pos: Floats) -> Floats:
    """Returns the cost of being at `pos [2, agents, E]`, summed over both axes: `[agents, E]`.

    Along each axis it is nothing up to 0.9, rises to 1 at 1.0, then like `exp(2 x - 2)` up to 10.
    """
    far = np.abs(pos)
    ramp = np.maximum((far - EDGE) * 10, 0.0)
    if (far >= 1.0).any():
        # beyond 3 the cost is at its limit anyway, and exp cannot overflow
        ramp = np.where(far < 1.0, ramp, np.minimum(np.exp(2 * np.minimum(far, 3.0) - 2), LIMIT))
    cost: Floats = ramp[0] + ramp[1]
    return cost
