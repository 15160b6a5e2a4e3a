"""What the method's callbacks act on: the side of a policy that they see, as types.

Any policy with these attributes and methods will do; `MaskedQMixTorchPolicy` and its subclasses have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from k24_rllib.callbacks.record import RunRecord
from k24_rllib.sparsity import KaleidoscopeLinear, MaskedLayer, SemiStructuredLinear

Layer = TypeVar("Layer", bound=MaskedLayer, covariant=True)


class MaskLearner(Protocol[Layer]):
    """A policy whose agents mask the layers that they share.

    Attributes:
        config: The algorithm's settings by name.
        record: What callbacks remember of the run; part of every checkpoint.
        global_timestep: Environment steps sampled so far.
        cur_lr: The learning rate that the schedule says now.
    """

    config: Mapping[str, Any]
    record: RunRecord
    global_timestep: int
    cur_lr: float

    def masked_layers(self) -> Sequence[Layer]:
        """Returns the learner's masked layers, from input to output."""

    def progress(self) -> float:
        """Returns the share of the run's environment steps that are sampled, 0 to 1."""

    def steps_to_learn(self) -> float:
        """Returns the environment steps for which masks can still change."""

    def forget_moments(self, parameter: Tensor, entries: Tensor | None = None) -> None:
        """Clears what the optimizer remembers of a parameter, or of `entries` (bool, shaped like it) alone."""


class PolicyDivergence(Protocol):
    """Tells how far behaviour moved between the last two learner batches."""

    def divergence(self) -> Tensor | float:
        """Returns a KL divergence in nats."""


class PatternLearner(MaskLearner[SemiStructuredLinear], Protocol):
    """A policy whose layers keep n of every m weights."""

    @property
    def policy_change(self) -> PolicyDivergence:
        """How far behaviour moved."""

    def freeze_masks(self) -> None:
        """Fixes all masks for good, in the target network too."""

    def set_learning_rate(self, lr: float) -> None:
        """Sets the optimizer's learning rate, until the schedule sets it again."""


class ThresholdLearner(MaskLearner[KaleidoscopeLinear], Protocol):
    """A policy whose layers prune below learned thresholds."""

    def reset_generator(self) -> torch.Generator | None:
        """Returns what the next reset draws from; None is torch's own."""
