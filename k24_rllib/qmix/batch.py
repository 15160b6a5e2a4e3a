"""What the loss reads: a batch of episodes as the learner's tensors.

Shapes, time-major: `T` steps of the longest episode in the batch, `B` episodes, `N` agents, `I` input size of an
agent, `S` state size, `U` actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from k24_rllib.models import OwnerGroups


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """A batch of episodes as the learner's tensors, time-major."""

    inputs: Tensor  # [N, T+1, B, I], the agents' inputs
    groups: OwnerGroups  # which rows of these each mask owner has
    state: Tensor  # [T+1, B, S]
    available: Tensor  # [T+1, B, N, U]
    actions: Tensor  # [T, B, N]
    rewards: Tensor  # [T, B], standardised where that is on
    terminated: Tensor  # [T, B]
    valid: Tensor  # [T, B], steps that were taken
    observed: Tensor  # [T+1, B], observations that are not padding
    importance: Tensor | None = None  # [B], importance weights of the episodes; None where all are 1
