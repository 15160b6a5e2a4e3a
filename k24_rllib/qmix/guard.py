"""An update is made if its loss and gradient are finite numbers; otherwise everything stays as it was before it.

What an update would change is the weights and the optimizer's state, and what the forward pass has moved by then:
statistics that modules keep in buffers, as the input scale of masked layers and their selection rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

MOST_UNREAD = 1024
"""Updates after which the device is asked in any case."""


class DivergedError(RuntimeError):
    """Training has come to numbers that are none, and does not come back; the message is a single line."""


class _Buffer(NamedTuple):
    """A module's buffer before the forward pass. Where it is not written to, the tensor itself is what it was."""

    part: nn.Module
    name: str
    tensor: Tensor
    version: int
    before: Tensor

    def current(self) -> Tensor:
        """Returns the buffer as it is now."""
        return cast(Tensor, self.part._buffers[self.name])

    def has_moved(self) -> bool:
        """Returns whether there is another tensor in its place, or something was written into it."""
        return self.current() is not self.tensor or self.tensor._version != self.version

    def put_back(self) -> None:
        """Lets the buffer be what it was."""
        self.part._buffers[self.name] = self.before


class UpdateGuard:
    """Makes updates, skips those whose loss or gradient is not finite, and counts these.

    On a CPU that is known at once. Elsewhere asking would wait for the device in every update, so the device decides:
    Adam's fused step leaves out what it is told to, buffers are chosen by the same flag, and `read` learns of it later.

    Args:
        deferred: Whether the device decides.

    Attributes:
        skipped: Updates skipped so far, as far as they were read.
        in_a_row: Those of them since the last one made.
    """

    def __init__(self, deferred: bool) -> None:
        self._deferred = deferred
        self._places: list[tuple[nn.Module, str]] = []
        self._written_to: set[tuple[nn.Module, str]] | None = None  # those that are, in place; None: not known yet
        self._before: list[_Buffer] = []
        self._unread: list[Tensor] = []
        self.skipped = 0
        self.in_a_row = 0

    def watch(self, module: nn.Module) -> None:
        """Puts back the buffers of `module` too, which the forward pass may move: those that are part of its state."""
        self._places += [
            (part, name)
            for part in module.modules()
            for name in part._buffers
            if name not in part._non_persistent_buffers_set
        ]

    @torch.no_grad()
    def begin(self) -> None:
        """Remembers all buffers, before the forward pass of an update."""
        copied = self._places if self._written_to is None else self._written_to
        self._before = [
            _Buffer(part, name, its, its._version, its.clone() if (part, name) in copied else its)
            for part, name in self._places
            if (its := part._buffers[name]) is not None
        ]

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor, norm: Tensor) -> bool | None:
        """Makes the update whose gradients are there, or puts back what the forward pass has moved.

        Args:
            optimizer: Its step is made or not. Where the device decides, one that can't leave out a step by itself is
                waited for.
            loss: The update's loss, a scalar.
            norm: The norm of all gradients, before they were clipped.

        Returns:
            Whether the update was made; None where the device alone knows.
        """
        moved = [its for its in self._before if its.has_moved()]
        written_to = {(its.part, its.name) for its in moved if its.current() is its.tensor}
        self._written_to = written_to | (self._written_to or set())
        if self._deferred and getattr(optimizer, "_step_supports_amp_scaling", False):
            self._step_by_flag(optimizer, loss, norm, moved)
            return None
        made = math.isfinite(float(loss.detach())) and math.isfinite(float(norm))
        if made:
            optimizer.step()
        else:
            for its in moved:
                its.put_back()
        self._count(made)
        return made

    def read(self) -> None:
        """Counts what the device has decided since the last call; waits for it."""
        if self._unread:
            flags, self._unread = torch.stack(self._unread).tolist(), []
            for flag in flags:
                self._count(flag == 0.0)

    def get_state(self) -> dict[str, int]:
        """Returns the counts; waits for the device."""
        self.read()
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def set_state(self, state: dict[str, int]) -> None:
        """Takes over what `get_state` returned."""
        self._unread = []
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    def _count(self, made: bool) -> None:
        self.skipped += not made
        self.in_a_row = 0 if made else self.in_a_row + 1

    @torch.no_grad()
    def _step_by_flag(self, optimizer: Any, loss: Tensor, norm: Tensor, moved: Sequence[_Buffer]) -> None:
        wrong = torch.stack((loss.detach().float(), norm.float())).isfinite().all().logical_not_()
        optimizer.found_inf = flag = wrong.float()
        optimizer.step()
        optimizer.found_inf = None
        for its in moved:
            its.part._buffers[its.name] = torch.where(wrong, its.before, its.current())
        self._unread.append(flag)
        if len(self._unread) == MOST_UNREAD:
            self.read()
