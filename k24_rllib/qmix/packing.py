"""Arrays of episodes packed for a checkpoint: losslessly, and so fast that saving stays quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

_CODEC, _LEVEL = "zstd", 1  # 64% of float observations at 250 MB/s; zlib's fastest: 63% at 40 MB/s


def pack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Returns arrays as compressed bytes, by name, with what it takes to unpack them.

    What repeats another array is not written twice, as a state that is all observations side by side.
    """
    codec = pyarrow.Codec(_CODEC, compression_level=_LEVEL)
    packed: dict[str, Any] = {}
    for name, array in arrays.items():
        entry = packed[name] = {"dtype": array.dtype.str, "shape": array.shape}
        twin = next((other for other in packed if other != name and _same_bytes(arrays[other], array)), None)
        if twin is not None:
            entry["same_as"] = twin
        else:
            entry["bytes"] = codec.compress(np.ascontiguousarray(array), asbytes=True)
    return {"codec": _CODEC, "arrays": packed}


def unpack(packed: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Returns what `pack` was given."""
    codec = pyarrow.Codec(packed["codec"])
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in packed["arrays"].items():
        dtype, shape = np.dtype(entry["dtype"]), entry["shape"]
        if "same_as" in entry:
            arrays[name] = arrays[entry["same_as"]].reshape(shape)
            continue
        size = dtype.itemsize * int(np.prod(shape))
        arrays[name] = np.frombuffer(codec.decompress(entry["bytes"], size), dtype).reshape(shape)
    return arrays


def is_packed(episodes: Mapping[str, Any]) -> bool:
    """Returns whether these are what `pack` returned, and not the arrays themselves, as in older checkpoints."""
    return "codec" in episodes


def _same_bytes(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Returns whether two arrays of floats hold the same numbers in the same order, in whatever shape."""
    if one.dtype != other.dtype or one.size != other.size or one.dtype.kind != "f":
        return False
    kind = np.dtype(f"u{one.itemsize}")  # bit for bit: -0 is not 0, and NaN is itself
    return bool(np.array_equal(one.reshape(-1).view(kind), other.reshape(-1).view(kind)))
