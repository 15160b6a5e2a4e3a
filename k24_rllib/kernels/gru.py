"""The compiled recurrence of a GRU, `gru.c`. Shapes as there: `N` agents, `T` steps, `B` episodes, `H` hidden size."""

from __future__ import annotations

from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor

from k24_rllib.kernels.library import call

LANES, ROWS = 16, 6  # the widest vectors of the C, whose narrower ones divide them; and its rows


@dataclass(frozen=True, slots=True)
class Unrolled:
    """What `forward` gives.

    Attributes:
        states: `[N, T + 1, B, H]`, the first step the given one.
        squashed: `r` and `z` `[N, T, B, 2H]`.
        share: The state's share of the new gate, `[N, T, B, H]`.
        new: `n`, `[N, T, B, H]`. These three have no steps if they are not kept.
    """

    states: Tensor
    squashed: Tensor
    share: Tensor
    new: Tensor


def forward(kernels: CDLL, gates: Tensor, hidden: Tensor, w_hh: Tensor, b_hh: Tensor, keep: bool) -> Unrolled:
    """Runs the recurrence.

    Args:
        kernels: What `library` returned.
        gates: The inputs' share of the gates, `[N, T, B, 3H]`; `H` a multiple of `LANES`.
        hidden: `[N, B, H]`.
        w_hh: `[3H, H]`.
        b_hh: `[3H]`.
        keep: Whether to keep what `backward` needs.
    """
    (agents, steps, rows, _), size = gates.shape, hidden.shape[-1]
    states = gates.new_empty(agents, steps + 1, rows, size)
    states[:, 0] = hidden
    length = steps if keep else 0
    squashed, share, new = (gates.new_empty(agents, length, rows, width * size) for width in (2, 1, 1))
    kept = [squashed, share, new] if keep else [None, None, None]
    scratch = gates.new_empty(ROWS, 3 * size)
    sizes = (agents * rows, steps, rows, size)
    call(kernels, "gru_forward", sizes, gates, w_hh.T, b_hh, states, *kept, scratch)
    return Unrolled(states, squashed, share, new)


def backward(kernels: CDLL, grad_states: Tensor, w_hh: Tensor, unrolled: Unrolled) -> Tensor:
    """Returns the gradients by the gates, `[N, T, B, 4H]`.

    By the inputs' share of new, reset, update, and the state's share of new: the first three are what the inputs'
    weights need, in the order new, reset, update, and the last three what the state's need, in PyTorch's order.

    Args:
        kernels: What `library` returned.
        grad_states: By the states after each step, `[N, T, B, H]`.
        w_hh: `[3H, H]`.
        unrolled: What `forward` gave, all of it kept.
    """
    agents, steps, rows, size = grad_states.shape
    grads = grad_states.new_empty(agents, steps, rows, 4 * size)
    scratch = torch.empty(ROWS, size)
    call(
        kernels,
        "gru_backward",
        (agents * rows, steps, rows, size),
        *(grad_states, w_hh, unrolled.states, unrolled.squashed, unrolled.share, unrolled.new, grads, scratch),
    )
    return grads
