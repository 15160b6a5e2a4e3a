"""Our GRU against `nn.GRU`, which is its specification."""

import pytest
import torch
from torch import nn

from k24_rllib import kernels
from k24_rllib.models.gru import GRU

STEPS, ROWS, SIZE, HIDDEN = 7, 5, 6, 9


def pair() -> tuple[GRU, nn.GRU]:
    torch.manual_seed(0)
    ours, theirs = GRU(SIZE, HIDDEN).double(), nn.GRU(SIZE, HIDDEN).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("steps", [1, STEPS])
def test_states_and_every_gradient_are_those_of_nn_gru(steps: int) -> None:
    ours, theirs = pair()
    x = torch.randn(steps, ROWS, SIZE, dtype=torch.float64)
    hidden = torch.randn(1, ROWS, HIDDEN, dtype=torch.float64)
    direction = torch.randn(steps, ROWS, HIDDEN, dtype=torch.float64)
    gradients = []
    for cell in (ours, theirs):
        leaf = x.clone().requires_grad_()
        states, last = cell(leaf, hidden)
        gradients.append(torch.autograd.grad((states * direction).sum(), [leaf, *cell.parameters()]))
        torch.testing.assert_close(last, states[-1:], rtol=0, atol=0)
    torch.testing.assert_close(ours(x, hidden), theirs(x, hidden), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [16, 48, 64, 80])
@pytest.mark.parametrize("rows", [1, 6, 13])
def test_the_compiled_recurrence_computes_the_same(size: int, rows: int) -> None:
    """Columns and rows that fill the kernel's blocks and such that do not, against float64."""
    if kernels.library() is None:
        pytest.skip("no C compiler here")
    torch.manual_seed(0)
    compiled, exact = GRU(SIZE, size), nn.GRU(SIZE, size).double()
    exact.load_state_dict({name: value.double() for name, value in compiled.state_dict().items()})
    x, hidden = 3.0 * torch.randn(STEPS, rows, SIZE), torch.randn(1, rows, size)
    direction = torch.randn(STEPS, rows, size)
    gradients, states = [], []
    for cell, kind in ((compiled, torch.float32), (exact, torch.float64)):
        leaf = x.to(kind).requires_grad_()
        states.append(cell(leaf, hidden.to(kind))[0])
        gradients.append(torch.autograd.grad((states[-1] * direction.to(kind)).sum(), [leaf, *cell.parameters()]))
    torch.testing.assert_close(states[0].double(), states[1], rtol=1e-5, atol=2e-6)
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours.double() - theirs).norm() < 2e-6 * theirs.norm()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, hidden)[0], states[0], rtol=0, atol=0)


def test_large_inputs_saturate_and_stay_finite() -> None:
    cell = GRU(SIZE, 16)
    states, _ = cell(torch.full((3, 2, SIZE), 1e4), torch.zeros(1, 2, 16))
    states.sum().backward()
    assert states.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in cell.parameters())


def test_without_gradients_the_states_are_the_same() -> None:
    ours, _ = pair()
    x, hidden = torch.randn(STEPS, ROWS, SIZE).double(), torch.randn(1, ROWS, HIDDEN).double()
    with torch.no_grad():
        plain = ours(x, hidden)
    torch.testing.assert_close(plain, ours(x, hidden), rtol=0, atol=0)


def test_a_step_at_a_time_is_an_unroll() -> None:
    ours, _ = pair()
    x, hidden = torch.randn(STEPS, ROWS, SIZE).double(), torch.zeros(1, ROWS, HIDDEN).double()
    states, _ = ours(x, hidden)
    for t in range(STEPS):
        stepped, hidden = ours(x[t : t + 1], hidden)
        torch.testing.assert_close(stepped[0], states[t], rtol=1e-12, atol=1e-12)


def test_inputs_that_need_no_gradient_get_none() -> None:
    ours, _ = pair()
    states, _ = ours(torch.randn(2, ROWS, SIZE).double(), torch.zeros(1, ROWS, HIDDEN).double())
    states.sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_the_precision_of_products_is_left_as_it_was() -> None:
    ours, _ = pair()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        states, _ = ours(torch.randn(2, ROWS, SIZE).double(), torch.zeros(1, ROWS, HIDDEN).double())
        states.sum().backward()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_agents_first_is_every_agent_on_its_own(compiled: bool, grad: bool) -> None:
    torch.manual_seed(0)
    cell = GRU(SIZE, 16, compiled)
    x, hidden = torch.randn(3, STEPS, ROWS, SIZE), torch.randn(3, ROWS, 16)
    with torch.set_grad_enabled(grad):
        states, last = cell.unroll(x, hidden)
        for n in range(3):
            own, own_last = cell(x[n], hidden[n : n + 1])
            torch.testing.assert_close(states[n], own, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(last[n], own_last[0], rtol=1e-6, atol=1e-6)
    if grad:
        alone = sum(cell(x[n], hidden[n : n + 1])[0].square().sum() for n in range(3))
        parameters = list(cell.parameters())
        for mine, its in zip(
            torch.autograd.grad(states.square().sum(), parameters), torch.autograd.grad(alone, parameters), strict=True
        ):
            torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)
