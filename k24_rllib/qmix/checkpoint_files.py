"""Where checkpoints lie: written whole or not at all, and the one before it where one is damaged."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.qmix.manifest import (
    HAS_MANIFEST,
    INFO_FILE,
    MANIFEST_FILE,
    DamagedCheckpointError,
    files_of,
    read_manifest,
    replace_file,
    verify,
)

STATE_FILE = "algorithm_state.pkl"
_HERE, _EXCHANGE = -100, 2  # fcntl.h: AT_FDCWD, linux/fs.h: RENAME_EXCHANGE
_TUNES_NAME = re.compile(r"checkpoint_(\d+)$")


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """Gives a new directory to write a checkpoint into, and puts it in its place once it is complete.

    Where there is no `directory` yet, it appears by one renaming; one with a checkpoint alone changes places with it.
    Where there are other files, or the system can't do that, files are replaced one by one, the manifest last:
    interrupted in between, they don't fit the manifest, which shows.
    """
    directory = directory.resolve()
    apart = not directory.exists() or _is_a_checkpoint_alone(directory)
    place = directory.parent if apart else directory
    place.mkdir(parents=True, exist_ok=True)
    draft = place / f".unfinished-{uuid.uuid4().hex[:8]}"
    draft.mkdir()
    try:
        yield draft
        if not directory.exists():
            draft.rename(directory)
        elif not (apart and _exchange(draft, directory)):
            _move_into(draft, directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_a_checkpoint_alone(directory: Path) -> bool:
    """Returns whether a directory holds a checkpoint's files and no others, and can be renamed."""
    try:
        manifest = read_manifest(directory)
    except ConfigError:
        return False
    return manifest is not None and not directory.is_mount() and files_of(directory) == sorted(manifest["files"])


def _exchange(one: Path, other: Path) -> bool:
    """Lets two directories change places at once; returns whether this system can (Linux, and most of its disks)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    one.chmod(other.stat().st_mode)
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _move_into(draft: Path, directory: Path) -> None:
    files = sorted(file.relative_to(draft) for file in draft.rglob("*") if file.is_file())
    for file in sorted(files, key=lambda file: file.name == MANIFEST_FILE):
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft / file, directory / file)


def announce_manifest(checkpoint: Path) -> None:
    """Says in RLlib's note that a manifest belongs to a checkpoint, so that half a copy is told from an old one."""
    file = checkpoint / INFO_FILE
    info = json.loads(file.read_bytes())
    replace_file(file, json.dumps({**info, "state_file": STATE_FILE, HAS_MANIFEST: True}).encode())


def checkpoint_number(directory: Path) -> int | None:
    """Returns the number that Tune gave a checkpoint of a trial, or None for a directory of another name."""
    match = _TUNES_NAME.match(directory.name)
    return int(match[1]) if match else None


def trial_checkpoints(trial: Path) -> list[Path]:
    """Returns what Tune left of a trial's checkpoints, sound or not, the newest first."""
    found = [path for path in trial.glob("checkpoint_*") if checkpoint_number(path) is not None and path.is_dir()]
    return sorted(found, key=lambda path: checkpoint_number(path) or 0, reverse=True)


def sound_checkpoint(checkpoint: Path) -> Path:
    """Returns `checkpoint` if it is sound, else the newest sound one before it of the same trial, and says so.

    Raises:
        DamagedCheckpointError: naming what is wrong with it, where there is no sound one before.
        ConfigError: for a checkpoint of a newer format.
    """
    sound, note = find_sound(checkpoint)
    if note:
        print(note, flush=True)
    return sound


def find_sound(checkpoint: Path) -> tuple[Path, str]:
    """Returns what `sound_checkpoint` does, and what there is to say of it, or nothing."""
    try:
        verify(checkpoint)
        return checkpoint, ""
    except DamagedCheckpointError as error:
        number = checkpoint_number(checkpoint)
        for other in trial_checkpoints(checkpoint.parent) if number is not None else []:
            if (checkpoint_number(other) or 0) < (number or 0) and _is_sound(other):
                return other, f"note: {checkpoint.name}: {error.what}; {other.name}, the one before, is used"
        raise


def _is_sound(checkpoint: Path) -> bool:
    try:
        verify(checkpoint)
        return True
    except DamagedCheckpointError:
        return False
