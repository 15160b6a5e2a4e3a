"""Numbers as a file keeps them: float32, bfloat16, float16, or int8 with a scale for each row.

What is kept in fewer bits is rounded once, at export, and multiplied as float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice

DTYPES = ("float32", "bfloat16", "float16", "int8")
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
LARGEST_INT8 = 127
"""-128 is left out, so that a row and its negative are rounded alike."""
_STORED = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16, "int8": np.int8}


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A matrix for each of `K` owners (or one for all), `[K, J, I]`, as it is kept.

    Attributes:
        dtype: One of `DTYPES`.
        stored: The numbers; bfloat16 as its bits.
        scale: `[K, J, 1]` float32, what the numbers of a row are multiples of; with int8 alone.
    """

    dtype: str
    stored: NDArray[Any]
    scale: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, what: str, values: NDArray[np.float32], dtype: str) -> Numbers:
        """Rounds numbers to a type.

        Args:
            what: Their name, for the message.
            values: `[K, J, I]`.
            dtype: One of `DTYPES`. Rounding is to the nearest, to even between two.

        Raises:
            ConfigError: for numbers that are not finite, or too large for the type.
        """
        check_choice("dtype", dtype, DTYPES)
        if not np.isfinite(values).all():
            raise ConfigError(f"{what}: got a number that is not finite, expected finite numbers")
        if dtype == "int8":
            scale = np.abs(values).max(-1, keepdims=True, initial=0.0) / LARGEST_INT8
            scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
            return cls(dtype, np.clip(np.rint(values / scale), -LARGEST_INT8, LARGEST_INT8).astype(np.int8), scale)
        with np.errstate(over="ignore"):
            stored = _bfloat16(values) if dtype == "bfloat16" else values.astype(_STORED[dtype])
        made = cls(dtype, stored)
        if not np.isfinite(made.float32()).all():
            largest = float(np.abs(values).max())
            raise ConfigError(f"{what}: got {largest:.3g}, expected what {dtype} can hold; bfloat16 or float32 can")
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """`(K, J, I)`."""
        return self.stored.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers and their scales."""
        return self.stored.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def float32(self) -> NDArray[np.float32]:
        """Returns what to multiply by, `[K, J, I]`."""
        if self.dtype == "bfloat16":
            return (self.stored.astype(np.uint32) << 16).view(np.float32)
        values: NDArray[np.float32] = self.stored.astype(np.float32)
        return values if self.scale is None else values * self.scale


def stored_type(dtype: str) -> type:
    """Returns NumPy's type of what is kept."""
    return _STORED[dtype]


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Returns the upper half of each number's bits, rounded to the nearest, to even between two."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
