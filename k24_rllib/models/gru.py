"""A GRU whose unroll on the CPU makes few, large products: `nn.GRU` with other ways to compute it.

`nn.GRU` on the CPU lets autograd walk back through a dozen small operations a step, and adds a product to each weight's
gradient at every step. Here whatever does not depend on the step before is done for all steps at once, and the way back
is written by hand. The recurrence itself is compiled C where that can be had (`kernels`), and otherwise two
products and five operations a step. On CUDA cuDNN does all this, so `nn.GRU` runs there.

Shapes: `A` mask owners, `T` time steps, `R` rows (of one owner, or of all in the forms without `A`), `I` input size,
`H` hidden size. Gates lie side by side in PyTorch's order: reset, update, new.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CDLL
from typing import Any, cast

import torch
from torch import Tensor, nn

from k24_rllib import kernels

STEP_PRECISION = "highest"
"""Keeps products of one step away from oneDNN, which takes long to start (see `matmul_precision` of the learner)."""

Parameters = tuple[Tensor, Tensor, Tensor, Tensor]
"""`W_ih [3H, I]`, `W_hh [3H, H]`, `b_ih [3H]` and `b_hh [3H]`."""


class GRU(nn.GRU):
    """One layer of `nn.GRU`, with its parameters, names, initial values and equations (arXiv 1406.1078).

    Args:
        input_size: `I`.
        hidden_size: `H`; compiled if it is a multiple of 16.
        compiled: Whether to compile the recurrence, where there is a C compiler.
    """

    def __init__(self, input_size: int, hidden_size: int, compiled: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.compiled = compiled

    def parameters_in_order(self) -> Parameters:
        """Returns the parameters as `unroll` takes them."""
        w_ih, w_hh, b_ih, b_hh = (self.get_parameter(name) for name in self._flat_weights_names)
        return w_ih, w_hh, b_ih, b_hh

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Runs over time, as `nn.GRU` does.

        Args:
            x: `[T, R, I]`.
            hidden: `[1, R, H]`, the state before the first step; on the CPU no gradient flows into it.

        Returns:
            The states after each step `[T, R, H]` and the last of them `[1, R, H]`.
        """
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x, hidden)
        library = self._library(x)
        if library is not None:
            states, last = _compiled_unroll(library, x.unsqueeze(0), hidden, self.parameters_in_order())
            return states.squeeze(0), last
        return _unroll(x, hidden, self.parameters_in_order())

    def unroll(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Runs over time with owners first, as the layers before and after have them.

        Args:
            x: `[A, T, R, I]`.
            hidden: `[A, R, H]`, as in `forward`.

        Returns:
            The states after each step `[A, T, R, H]` and the last of them `[A, R, H]`.
        """
        library = self._library(x)
        if library is not None:
            return _compiled_unroll(library, x, hidden, self.parameters_in_order())
        return _over_time(self, x, hidden)

    def _library(self, x: Tensor) -> CDLL | None:
        return kernels_for(x, self.hidden_size) if self.compiled else None


def unroll(x: Tensor, hidden: Tensor, parameters: Parameters, compiled: bool = True) -> tuple[Tensor, Tensor]:
    """Does what `GRU.unroll` does with parameters that are no module's own, such as masked ones."""
    library = kernels_for(x, hidden.shape[-1]) if compiled else None
    if library is not None:
        return _compiled_unroll(library, x, hidden, parameters)

    def run(x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            has_biases, layers, dropout, training, both_ways, batch_first = True, 1, 0.0, False, False, False
            states, last = torch.gru(
                x, hidden, list(parameters), has_biases, layers, dropout, training, both_ways, batch_first
            )
            return states, last
        return _unroll(x, hidden, parameters)

    return _over_time(run, x, hidden)


def kernels_for(x: Tensor, hidden_size: int) -> CDLL | None:
    """Returns the compiled kernels, if they can do it."""
    fits = kernels.on_cpu(x) and hidden_size % kernels.gru.LANES == 0
    return kernels.library() if fits and not torch.is_autocast_enabled("cpu") else None


def _over_time(
    run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """Gives rows of `x [A, T, R, I]` to `run` as `[T, A*R, I]`, and back."""
    owners, steps, rows, size = x.shape
    by_time = x.transpose(0, 1).reshape(steps, owners * rows, size)  # [T, A*R, I]
    states, last = run(by_time, hidden.reshape(1, owners * rows, -1))
    return states.view(steps, owners, rows, -1).transpose(0, 1), last.view(owners, rows, -1)


def _unroll(x: Tensor, hidden: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Runs `x [T, R, I]` from `hidden [1, R, H]` on the CPU without compiled kernels."""
    if torch.is_grad_enabled():
        states: Tensor = _Unroll.apply(x, hidden[0], *parameters)
    else:
        states = _forward(x, hidden[0], *parameters)[0][1:]
    return states, states[-1:]


def _compiled_unroll(library: CDLL, x: Tensor, hidden: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():
        states: Tensor = _CompiledUnroll.apply(library, x, hidden, *parameters)
    else:
        w_ih, w_hh, b_ih, b_hh = parameters
        gates = _input_gates(x, w_ih, b_ih)
        states = kernels.gru.forward(library, gates, hidden, w_hh, b_hh, keep=False).states[:, 1:]
    return states, states[:, -1]


def _input_gates(x: Tensor, w_ih: Tensor, b_ih: Tensor) -> Tensor:
    """Returns the inputs' share of the gates, `[..., 3H]` for `x [..., I]`, of all steps in one product."""
    return torch.addmm(b_ih, x.reshape(-1, x.shape[-1]), w_ih.mT).view(*x.shape[:-1], -1)


class _CompiledUnroll(torch.autograd.Function):
    """The compiled recurrence and its gradient (backpropagation through time, exact); arrays are owner-major."""

    @staticmethod
    def forward(
        ctx: Any, library: CDLL, x: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        unrolled = kernels.gru.forward(library, _input_gates(x, w_ih, b_ih), hidden, w_hh, b_hh, keep=True)
        ctx.save_for_backward(x, w_ih, w_hh)
        ctx.library, ctx.unrolled = library, unrolled
        return unrolled.states[:, 1:]

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh = ctx.saved_tensors
        size = grad_states.shape[-1]
        grads = kernels.gru.backward(ctx.library, grad_states, w_hh, ctx.unrolled)
        flat = grads.view(-1, 4 * size)  # by the inputs' share of new, reset, update, the state's share of new
        grad_gates, grad_share = flat[:, : 3 * size], flat[:, size:]
        grad_x = (grad_gates @ w_ih.roll(size, 0)).view_as(x) if ctx.needs_input_grad[1] else None
        grad_w_ih = (grad_gates.mT @ x.reshape(-1, x.shape[-1])).roll(-size, 0)
        grad_w_hh = grad_share.mT @ ctx.unrolled.states[:, :-1].reshape(-1, size)
        sums = flat.sum(0)
        return None, grad_x, None, grad_w_ih, grad_w_hh, sums[: 3 * size].roll(-size), sums[size:]


class IndependentGRU(nn.Module):
    """A GRU for each mask owner, nothing shared.

    Args:
        input_size: `I`.
        hidden_size: `H`.
        num_owners: `A`.
        compiled: See `GRU`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_owners: int, compiled: bool = True) -> None:
        super().__init__()
        self.cells = nn.ModuleList(GRU(input_size, hidden_size, compiled) for _ in range(num_owners))

    def unroll(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the rows of owner `a`, `x[a]` and `hidden[a]`, through cell `a`; see `GRU.unroll`."""
        states, last = [], []
        for owner, cell in enumerate(self.cells):
            its_states, its_last = cast(GRU, cell).unroll(x[owner : owner + 1], hidden[owner : owner + 1])
            states.append(its_states)
            last.append(its_last)
        return torch.cat(states), torch.cat(last)


def _forward(
    x: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the states `[T + 1, R, H]`, the first of them `hidden`, and what the way back needs if `keep` is set.

    With `i = x_t @ W_ih.T + b_ih` and `g = h @ W_hh.T + b_hh`: `r = sigmoid(i_r + g_r)`, `z = sigmoid(i_z + g_z)`,
    `n = tanh(i_n + r g_n)`, `h' = n + z (h - n)`. Kept are `r` and `z` `[T, R, 2H]`, `g_n` and `n` `[T, R, H]`.
    """
    gates = _input_gates(x, w_ih, b_ih)  # [T, R, 3H]
    (steps, rows, _), size = gates.shape, hidden.shape[1]
    (w_rz, w_n), (b_rz, b_n) = w_hh.split([2 * size, size]), b_hh.split([2 * size, size])
    w_rz, w_n = w_rz.mT, w_n.mT
    gates_rz, gates_n = gates.split([2 * size, size], -1)
    gates_rz = gates_rz + b_rz
    states = gates.new_empty(steps + 1, rows, size)
    states[0] = hidden
    length = steps if keep else 1  # without a way back every step writes over the one before
    squashed, share, new = (gates.new_empty(length, rows, width * size) for width in (2, 1, 1))
    parts = [squashed, *squashed.split(size, -1), share, new]
    views = [part.unbind() * (1 if keep else steps) for part in parts]
    minus_one = gates.new_full((), -1.0)
    before = states[0]
    with kernels.matmul_precision(STEP_PRECISION):
        for gate_rz, gate_n, after, rz, r, z, g_n, n in zip(
            gates_rz.unbind(), gates_n.unbind(), states[1:].unbind(), *views, strict=True
        ):
            torch.addmm(gate_rz, before, w_rz, out=rz).sigmoid_()
            torch.addmm(b_n, before, w_n, out=g_n)
            # tanh(a) = 2 sigmoid(2a) - 1: PyTorch's tanh takes five times as long as its sigmoid on the CPU.
            torch.addcmul(gate_n, r, g_n, out=n).mul_(2.0).sigmoid_()
            torch.add(minus_one, n, alpha=2.0, out=n)
            torch.lerp(n, before, z, out=after)
            before = after
    return states, squashed, share, new


class _Unroll(torch.autograd.Function):
    """`_forward` and its gradient by hand (backpropagation through time, exact)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        states, squashed, share, new = _forward(x, hidden, w_ih, w_hh, b_ih, b_hh, keep=True)
        ctx.save_for_backward(x, w_ih, w_hh, states, squashed, share, new)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, states, squashed, share, new = ctx.saved_tensors
        steps, rows, size = new.shape
        slopes = _slopes(states, squashed, share, new)
        grads = _walk_back(grad_states, slopes, squashed[..., size:], w_hh)
        flat = grads.view(steps * rows, 4 * size)
        grad_share = flat[:, : 3 * size]
        grad_gates = torch.cat((flat[:, : 2 * size], flat[:, 3 * size :]), -1)
        grad_x = (grad_gates @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None
        grad_w_ih = grad_gates.mT @ x.reshape(steps * rows, -1)
        grad_w_hh = grad_share.mT @ states[:-1].view(-1, size)
        grad_r, grad_z, grad_share_n, grad_n = flat.sum(0).split(size)
        grad_b_ih, grad_b_hh = torch.cat((grad_r, grad_z, grad_n)), torch.cat((grad_r, grad_z, grad_share_n))
        return grad_x, None, grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh


def _slopes(states: Tensor, squashed: Tensor, share: Tensor, new: Tensor) -> Tensor:
    """Returns the derivatives of the state after each step, `[T, R, 4, H]`.

    By what the reset and update gates were before squashing, by the state's share of the new gate, and by the inputs'.
    """
    steps, rows, size = new.shape
    r, z = squashed.split(size, -1)
    slopes = new.new_empty(steps, rows, 4, size)
    by_r, by_z, by_share_n, by_n = slopes.unbind(2)
    replaced = 1.0 - z
    torch.addcmul(replaced, replaced, new * new, value=-1.0, out=by_n)  # (1 - z)(1 - n^2)
    torch.mul(by_n, r, out=by_share_n)
    torch.mul(by_share_n, share, out=by_r).mul_(1.0 - r)
    torch.sub(states[:-1], new, out=by_z).mul_(replaced.mul_(z))
    return slopes


def _walk_back(grad_states: Tensor, slopes: Tensor, z: Tensor, w_hh: Tensor) -> Tensor:
    """Returns the gradients by what `slopes` derives by, `[T, R, 4, H]`, from those by the states `[T, R, H]`."""
    steps, rows, _, size = slopes.shape
    grads = torch.empty_like(slopes)
    into_share = grads.view(steps, rows, 4 * size)[..., : 3 * size]
    views = [grads[1:], slopes[1:], into_share[1:], z[1:], grad_states[:-1]]
    total = grad_states[-1]
    with kernels.matmul_precision(STEP_PRECISION):
        for grad, slope, share, keeps, grad_before in zip(*(reversed(view.unbind()) for view in views), strict=True):
            torch.mul(total.unsqueeze(1), slope, out=grad)
            total = torch.addcmul(grad_before, total, keeps).addmm_(share, w_hh)
    torch.mul(total.unsqueeze(1), slopes[0], out=grads[0])
    return grads
