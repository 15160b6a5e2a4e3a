"""The compiled recurrence of a GRU, `gru.c`. Shapes as in `models/gru.py`."""

from __future__ import annotations

from ctypes import CDLL

from torch import Tensor

from k24_rllib.kernels.library import call

LANES, ROWS = 16, 6  # as in the C


def forward(
    kernels: CDLL, gates: Tensor, hidden: Tensor, w_hh: Tensor, b_hh: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the states `[T + 1, R, H]`, the first of them `hidden`, and what `backward` needs if `keep` is set.

    Args:
        kernels: What `library` returned.
        gates: The inputs' share of the gates, `[T, R, 3H]`; `H` a multiple of `LANES`.
        hidden: `[R, H]`.
        w_hh: `[3H, H]`.
        b_hh: `[3H]`.
        keep: Whether to keep `r` and `z` `[T, R, 2H]`, the state's share of the new gate, and `n`, `[T, R, H]` each.
    """
    (steps, rows, _), size = gates.shape, hidden.shape[1]
    states = gates.new_empty(steps + 1, rows, size)
    states[0] = hidden
    length = steps if keep else 0
    squashed, share, new = (gates.new_empty(length, rows, width * size) for width in (2, 1, 1))
    kept = [squashed, share, new] if keep else [None, None, None]
    scratch = gates.new_empty(ROWS, 3 * size)
    call(kernels, "gru_forward", (steps, rows, size), gates, w_hh.T, b_hh, states, *kept, scratch)
    return states, squashed, share, new


def backward(
    kernels: CDLL,
    grad_states: Tensor,
    w_hh: Tensor,
    states: Tensor,
    squashed: Tensor,
    share: Tensor,
    new: Tensor,
) -> Tensor:
    """Returns the gradients `[T, R, 4H]` by the gates: reset, update, the state's share of new, the inputs' share."""
    steps, rows, size = new.shape
    grads = new.new_empty(steps, rows, 4 * size)
    scratch = new.new_empty(ROWS, size)
    sizes = (steps, rows, size)
    call(kernels, "gru_backward", sizes, grad_states, w_hh, states, squashed, share, new, grads, scratch)
    return grads
