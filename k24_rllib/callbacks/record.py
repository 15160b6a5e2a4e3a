"""What the method's callbacks remember of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class RunRecord:
    """What has happened so far in a run: `policy.record`, part of the policy's state and so of every checkpoint.

    Callbacks keep nothing in themselves, as RLlib makes new ones in every process and never saves them. Plain numbers
    and arrays only.
    """

    last_reset_step: int = 0
    """Environment steps sampled at the last reset of masks."""
    resets_total: int = 0
    revived_total: int = 0
    """Connections that Kaleidoscope's resets revived, all together."""
    finetuning: bool = False
    snapshot: list[NDArray[np.float32]] | None = None
    """`W` of each masked layer at `rewind_to`, until it is put back."""
    rewound: bool = False
    custom: dict[str, Any] = field(default_factory=dict)
    """Room for callbacks of the user's own."""

    def note_reset(self, step: int) -> None:
        """Takes note of a reset of masks at `step` environment steps."""
        self.last_reset_step = step
        self.resets_total += 1
