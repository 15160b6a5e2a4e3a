"""Numbers in fewer bits are the nearest there are, and what can't be held is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.serve.number_types import DTYPES, Numbers

TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def some(shape: tuple[int, ...] = (3, 16, 21)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 1, shape)).astype(np.float32)


@pytest.mark.parametrize("dtype", TORCH)
def test_floats_are_rounded_as_pytorch_rounds(dtype: str) -> None:
    values = some()
    expected = torch.from_numpy(values).to(TORCH[dtype]).float().numpy()
    np.testing.assert_array_equal(Numbers.of("w", values, dtype).float32(), expected)


def test_bfloat16_goes_to_even_between_two() -> None:
    halves = np.array([[[1.0 + 2**-8, 1.0 + 3 * 2**-8, -1.0 - 2**-8, 0.0]]], np.float32)
    np.testing.assert_array_equal(Numbers.of("w", halves, "bfloat16").float32(), [[[1.0, 1.0 + 2**-6, -1.0, 0.0]]])


def test_int8_is_off_by_half_a_step_of_its_row_at_most() -> None:
    values = some()
    values[1, 4] = 0.0
    numbers = Numbers.of("w", values, "int8")
    step = np.abs(values).max(-1, keepdims=True) / 127
    assert (np.abs(numbers.float32() - values) <= step * 0.5001).all()
    assert (numbers.float32()[1, 4] == 0).all()
    assert np.abs(numbers.stored).max() == 127


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_again_changes_nothing(dtype: str) -> None:
    once = Numbers.of("w", some(), dtype).float32()
    twice = Numbers.of("w", once, dtype).float32()
    np.testing.assert_allclose(twice, once, rtol=0 if dtype != "int8" else 1e-6)


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (np.nan, "float32", "fc1.weight: got a number that is not finite"),
        (np.inf, "int8", "fc1.weight: got a number that is not finite"),
        (1e5, "float16", "fc1.weight: got 1e+05, expected what float16 can hold"),
        (3.4e38, "bfloat16", "fc1.weight: got 3.4e+38, expected what bfloat16 can hold"),
        (0.0, "float8", "dtype: got 'float8', expected one of 'float32', 'bfloat16', 'float16', 'int8'"),
    ],
)
def test_what_a_type_cant_hold(value: float, dtype: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Numbers.of("fc1.weight", np.full((1, 1, 1), value, np.float32), dtype)
    assert said in str(refused.value)
