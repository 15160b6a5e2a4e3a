"""Settings of the learner's process."""

import pytest
import torch

from k24_rllib.qmix.process import keep_freed_memory, set_matmul_precision


@pytest.fixture(autouse=True)
def restored_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_a_named_precision_is_set(precision: str) -> None:
    assert set_matmul_precision(precision, torch.device("cpu")) == precision
    assert torch.get_float32_matmul_precision() == precision


def test_auto_stays_in_float32() -> None:
    """Whatever it takes here, products are as precise as float32 allows."""
    set_matmul_precision("auto", torch.device("cpu"))
    torch.manual_seed(0)
    left, right = torch.randn(300, 200), torch.randn(200, 100)
    exact = left.double() @ right.double()
    assert ((left @ right).double() - exact).norm() / exact.norm() < 1e-6


def test_auto_leaves_a_gpu_alone() -> None:
    assert set_matmul_precision("auto", torch.device("cuda")) == "highest"


def test_keeping_memory_is_safe_to_ask_for_twice() -> None:
    keep_freed_memory()
    keep_freed_memory()
    assert torch.randn(2_000_000).sum().isfinite()
