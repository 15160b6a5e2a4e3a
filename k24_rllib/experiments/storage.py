"""Where results go: whether that can be at all, found before Ray starts, and a disk that is full, said by name."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError, nearest

SCHEMES = {"s3": "S3FileSystem", "gs": "GcsFileSystem", "gcs": "GcsFileSystem", "hdfs": "HadoopFileSystem"}
SCHEMES |= {"viewfs": "HadoopFileSystem", "abfs": "AzureFileSystem", "abfss": "AzureFileSystem"}
"""Kinds of remote storage that Tune can write to, and the class of `pyarrow.fs` that does."""
LEAST_FREE = 32 << 20
"""Bytes without which no run is begun: a few small checkpoints, and results."""
LITTLE_FREE = 1 << 30
"""Bytes below which the user is told how much there is."""
FULL = 1 << 20
"""Bytes below which a disk is as good as full: files of a checkpoint are larger."""
RESULTS_FILE = "result.json"
NO_SPACE = os.strerror(errno.ENOSPC)


def check_storage(given: object, default: str) -> str:
    """Returns where results go: a URI as it is, a local path in full; nothing is written, or asked of a network.

    Raises:
        ConfigError: for a scheme that there isn't, and for a local path that can't be one.
    """
    path = default if given is None else given
    if not isinstance(path, str):
        raise ConfigError(f"storage_path: got {path!r}, expected a directory or a URI")
    scheme, separator, rest = path.partition("://")
    if separator and scheme != "file":
        if scheme not in SCHEMES:
            listed = ", ".join(("file", *SCHEMES))
            hint = nearest(scheme, SCHEMES) or f" (known: {listed})"
            raise ConfigError(f"storage_path: got {_short(path)!r}, unknown kind of storage {scheme!r}{hint}")
        return path
    local = Path(rest if separator else path).expanduser().absolute()
    try:
        if "\0" in path:
            raise ValueError("it has a zero byte")
        existing = _nearest_there(local)
    except (OSError, ValueError) as error:  # a name that is too long
        raise ConfigError(f"storage_path: {_short(path)} can't be made ({_reason(error)})") from error
    if not existing.is_dir():
        raise ConfigError(f"storage_path: {local} can't be made, because {existing} is a file")
    return str(local)


def check_writable(storage_path: str, name: str) -> None:
    """Checks, by trying, that this machine can write an experiment's results, and has room for them.

    Args:
        storage_path: What `check_storage` returned.
        name: The experiment's name, which is its directory there.

    Raises:
        ConfigError: naming the directory that can't be written to, or what a remote storage's package says.
    """
    if "://" in storage_path:
        _check_remote(storage_path)
        return
    directory = Path(storage_path, name)
    try:
        existing = _nearest_there(directory)
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(f"storage_path: {directory} can't be written to ({_reason(error)})") from error
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE:
        raise ConfigError(
            f"storage_path: the disk at {_disk(existing)} has {_size(free)} free, expected {_size(LEAST_FREE)}"
        )
    if free < LITTLE_FREE:
        _tell(f"note: the disk at {_disk(existing)} has {_size(free)} free")


@functools.cache
def _tell(note: str) -> None:
    """Prints a note, once."""
    print(note, flush=True)


def _check_remote(uri: str) -> None:
    """Checks that what this kind of storage needs is installed, and knows the place."""
    import pyarrow.fs

    scheme = uri.partition("://")[0]
    if not hasattr(pyarrow.fs, SCHEMES[scheme]):
        raise ConfigError(f"storage_path: {uri}: this pyarrow has no {SCHEMES[scheme]}, expected one built with it")
    try:
        pyarrow.fs.FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"storage_path: {_short(uri)} can't be used ({_reason(error)})") from error


def full_disks(places: Sequence[str | Path]) -> list[str]:
    """Returns the disks of some directories on this machine that are full, with what is free there."""
    found = {}
    for place in places:
        try:
            disk = _disk(_nearest_there(Path(place)))
            free = shutil.disk_usage(disk).free
        except OSError:
            continue
        if free < FULL:
            found[disk] = f"the disk at {disk} is full ({_size(free)} free)"
    return list(found.values())


def _disk(path: Path) -> Path:
    """Returns where the file system that holds a directory is mounted."""
    path = path.resolve()
    return next((parent for parent in (path, *path.parents) if parent.is_mount()), path)


class FullDiskError(RuntimeError):
    """No space was left for what a run writes; the message names the disk."""


@contextmanager
def full_disk_named(directory: str) -> Iterator[None]:
    """Turns whatever an error of Tune's says of a full disk into one line that names it.

    Args:
        directory: Where results go; Tune writes beside that into a temporary directory.
    """
    try:
        yield
    except Exception as error:
        if NO_SPACE not in str(error):
            raise
        full = full_disks([directory, tempfile.gettempdir()])
        raise FullDiskError(", ".join(full) or f"no space was left on the disk of {directory}") from error


def unwritten(trial: Any) -> str | None:
    """Returns what is to be said of a trial whose results did not all get to its directory, as on a full disk.

    Tune writes results into a temporary directory and copies that; a copy that fails is a line in a log.
    """
    draft, stored = Path(trial.local_path, RESULTS_FILE), Path(trial.path, RESULTS_FILE)
    if not draft.is_file():  # on another machine
        return None
    if stored.is_file() and stored.stat().st_size >= draft.stat().st_size:
        return None
    why = ", ".join(full_disks([trial.path])) or "nothing says why"
    return f"trial {trial}: its last results are not in {trial.path}: {why}"


def _nearest_there(path: Path) -> Path:
    return next((parent for parent in (path, *path.parents) if parent.exists()), path)


def _reason(error: Exception) -> str:
    """Returns what an error says, short enough for one line."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return _short(str(text).splitlines()[0])


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
