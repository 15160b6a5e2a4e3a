"""A file system of a few MiB, for tests of disks that are full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """Mounts an empty file system at a new directory; skips the test where this system doesn't let it have one."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)
