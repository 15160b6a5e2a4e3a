"""Where checkpoints lie: written whole or not at all, and the one before it where one is damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k24_rllib.qmix.manifest import (
    HAS_MANIFEST,
    INFO_FILE,
    MANIFEST_FILE,
    DamagedCheckpointError,
    replace_file,
    verify,
)

STATE_FILE = "algorithm_state.pkl"
_TUNES_NAME = re.compile(r"checkpoint_(\d+)$")


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """Gives a new directory to write a checkpoint into, and puts it in its place once it is complete.

    Where there is no `directory` yet, it appears by one renaming. Where there is one, its files are replaced, one by
    one and the manifest last, and others in it stay; interrupted in between, they don't fit the manifest, which shows.
    """
    fresh = not directory.exists()
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = (directory.parent if fresh else directory) / f".unfinished-{uuid.uuid4().hex[:8]}"
    draft.mkdir()
    try:
        yield draft
        if fresh:
            draft.rename(directory)
        else:
            _move_into(draft, directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
