"""How far the team's behaviour moved from one learner batch to the next.

Shapes: `T` time steps, `B` episodes, `N` agents, `U` actions.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from k24_rllib.models import UNAVAILABLE

FIRST_STEPS = 10
"""Time steps of an episode that count (method, adaptive reset)."""
SMALLEST_PROBABILITY = 1e-12


@torch.no_grad()
def mean_policy(q: Tensor, available: Tensor, valid: Tensor) -> Tensor:
    """Returns each agent's softmax policy over its available actions, averaged over the real steps.

    Args:
        q: Action values, `[T, B, N, U]`.
        available: `[T, B, N, U]` bool.
        valid: `[T, B]` bool, steps that were taken.

    Returns:
        `[N, U]`, probabilities.
    """
    probs = q.masked_fill(~available, UNAVAILABLE).softmax(-1)
    weight = valid.to(probs.dtype)[..., None, None]
    return (probs * weight).sum((0, 1)) / weight.sum().clamp_min(1.0)


def policy_divergence(now: Tensor, before: Tensor) -> Tensor:
    """Returns `KL(now || before)` in nats, the mean over agents, for policies `[N, U]`; 0 if nothing changed."""
    cross = torch.xlogy(now, before.clamp_min(SMALLEST_PROBABILITY))
    return (torch.xlogy(now, now) - cross).sum(-1).mean().clamp_min(0.0)  # rounding may go below


class PolicyChange:
    """Remembers the last two learner batches' action values, and computes `kl_div` of them when it is asked.

    An update that nobody asks about costs nothing but a reference.
    """

    def __init__(self) -> None:
        self._last: deque[tuple[Tensor, ...]] = deque(maxlen=2)
        """Arguments of `mean_policy`, or its result alone once it was computed; the older batch first."""
        self._before: tuple[tuple[Tensor, ...], ...] = ()

    def see(self, q: Tensor, available: Tensor, valid: Tensor) -> None:
        """Takes note of a batch: the arguments of `mean_policy`, of which the first `FIRST_STEPS` steps count."""
        self._before = tuple(self._last)
        self._last.append((q.detach()[:FIRST_STEPS], available[:FIRST_STEPS], valid[:FIRST_STEPS]))

    def forget(self) -> None:
        """Takes the last batch back, of an update that was skipped."""
        self._last = deque(self._before, maxlen=2)

    def policies(self) -> list[Tensor]:
        """Returns the mean policy `[N, U]` of each batch remembered, the older one first."""
        for i, its in enumerate(self._last):
            if len(its) > 1:
                self._last[i] = (mean_policy(*its),)
        return [policy for (policy,) in self._last]

    def divergence(self) -> Tensor | float:
        """Returns `KL(last batch || the one before)`, see `policy_divergence`; 0 before there are two."""
        policies = self.policies()
        return policy_divergence(policies[1], policies[0]) if len(policies) == 2 else 0.0

    def get_state(self) -> list[NDArray[Any]]:
        """Returns the two policies as arrays."""
        return [policy.cpu().numpy() for policy in self.policies()]

    def set_state(self, state: list[NDArray[Any]], device: torch.device) -> None:
        """Takes over what `get_state` returned."""
        self._last.clear()
        self._last.extend((torch.from_numpy(np.array(policy)).to(device),) for policy in state)
