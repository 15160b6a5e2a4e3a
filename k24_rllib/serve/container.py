"""Arrays and what is said of them in one safetensors file with a digest, written and read with NumPy alone.

A file is checked before any of it is used: reading it runs no code, and what was cut off, changed or made by another
version is refused. The digest is of all of the file's bytes with 64 zeros in its own place; it finds damage, and says
nothing about who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError

FORMAT = "k24_rllib team"
FORMAT_VERSION = "1"
NO_DIGEST = "0" * 64
LARGEST_HEADER = 64 * 1024 * 1024
Arrays = dict[str, NDArray[Any]]

_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "|i1", "U8": "|u1"}
"""NumPy's types of safetensors' numbers; it has no bfloat16, whose bits are held as whole numbers of 16 bits."""
_NAMES = {np.dtype(numpy): name for name, numpy in _TYPES.items()}


def write_container(path: Path | str, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> int:
    """Writes a file, under another name first, and returns its bytes.

    Args:
        path: The file.
        arrays: Numbers of 32, 16 or 8 bits by name; whole numbers of 16 bits are those of bfloat16.
        about: The rest, as texts; the format, its version and the digest are added.
    """
    content = seal(_safetensors(arrays, {"format": FORMAT, "format_version": FORMAT_VERSION, **about}))
    write_whole(Path(path), content)
    return len(content)


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file under another name first, so that it is never there by half.

    Raises:
        ConfigError: for a place that can't be written to.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, file)
    except OSError as error:
        raise ConfigError(f"{file}: can't be written ({error.strerror})") from error


def _safetensors(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {**about, "digest": NO_DIGEST}}
    parts, offset = [], 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):  # so that each is aligned
        array = arrays[name]
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def seal(content: bytes) -> bytes:
    """Returns a file's content with its digest where there are 64 zeros."""
    return content.replace(_field(NO_DIGEST), _field(hashlib.sha256(content).hexdigest()), 1)


def is_sealed(content: bytes, digest: str) -> bool:
    """Returns whether a file's content is what `seal` gave this digest to."""
    blank = content.replace(_field(digest), _field(NO_DIGEST), 1)
    return hashlib.sha256(blank).hexdigest() == digest


def _field(digest: str) -> bytes:
    """Returns the digest as it stands in a header."""
    return f'"digest":"{digest}"'.encode()


def read_bytes(path: Path) -> bytes:
    """Returns what a file holds.

    Raises:
        ConfigError: for one that can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from error


def read_container(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Returns the arrays of a file and what is said of them.

    Raises:
        ConfigError: for a file that is not as it was written, is of another kind, or of a version not known here.
    """
    content = read_bytes(path)
    size = int.from_bytes(content[:8], "little")
    try:
        if not 0 < size <= min(LARGEST_HEADER, len(content)):
            raise ValueError
        header = json.loads(content[8 : 8 + size])
        about = {str(key): str(value) for key, value in header.pop("__metadata__").items()}
        places = {name: _place(entry) for name, entry in header.items()}
        digest = about["digest"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{path}: is no team of k24_rllib, or a damaged one; rllib export makes one") from None
    length = 8 + size + max((end for _, _, _, end in places.values()), default=0)
    if len(content) < length:
        raise ConfigError(f"{path}: is truncated (got {len(content)} bytes, expected {length})")
    if not is_sealed(content, digest):
        raise ConfigError(f"{path}: is damaged (its digest is not its content's)")
    check_format(path, about)
    data = memoryview(content)[8 + size :]
    return {name: _array(path, name, data, *place) for name, place in places.items()}, about


def check_format(path: Path, about: Mapping[str, str]) -> None:
    """Checks that a file says it is a team's, of the version that is written here.

    Raises:
        ConfigError: naming the format of the file and, for a checkpoint's weights, what makes a team of them.
    """
    kind, version = about.get("format"), about.get("format_version")
    if kind == FORMAT and version == FORMAT_VERSION:
        return
    hint = f"; rllib export {path} makes one" if kind == "k24_rllib weights" else ""
    raise ConfigError(f"{path}: is of format {f'{kind} {version}'!r}, expected {FORMAT} {FORMAT_VERSION}{hint}")


def _place(entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Returns the type, shape, start and end of an array in a file."""
    shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError
    return str(entry["dtype"]), shape, start, end


def _array(path: Path, name: str, data: memoryview, kind: str, shape: tuple[int, ...], start: int, end: int) -> Any:
    if kind not in _TYPES:
        raise ConfigError(f"{path}: {name}: got numbers of type {kind!r}, expected one of {', '.join(_TYPES)}")
    numpy_type = np.dtype(_TYPES[kind])
    if end - start != math.prod(shape) * numpy_type.itemsize:
        raise ConfigError(f"{path}: {name}: got {end - start} bytes, expected those of shape {list(shape)}")
    return np.frombuffer(data[start:end], numpy_type).reshape(shape)
