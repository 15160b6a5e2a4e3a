"""A real checkpoint's files as they are written today, and what can become of them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from k24_rllib.qmix.checkpoint_files import announce_manifest
from k24_rllib.qmix.manifest import write_manifest

OLD_CHECKPOINTS = Path(__file__).parent / "data" / "checkpoints_before_parts"


def lay_checkpoint(place: Path, name: str = "K24QMix") -> Path:
    """Copies one of the stored checkpoints, which have no manifest, and gives it one."""
    shutil.copytree(OLD_CHECKPOINTS / name, place)
    announce_manifest(place)
    write_manifest(place)
    return place


def files_of(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file())


def flip_bit(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def damage(checkpoint: Path, rng: random.Random) -> str:
    """Flips a bit of one of the files, or cuts one short, and returns what was done."""
    file = rng.choice(files_of(checkpoint))
    size = file.stat().st_size
    if rng.random() < 0.5:
        bit = rng.randrange(8 * size)
        flip_bit(file, bit)
        return f"bit {bit} of {file.name}"
    kept = rng.randrange(size)
    with file.open("r+b") as opened:
        opened.truncate(kept)
    return f"{file.name} cut to {kept} of {size} bytes"
