"""Where this package keeps what is compiled once for each user and machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cache_directory() -> Path:
    """Returns the user's directory for it; it may not exist yet.

    Raises:
        RuntimeError: where nobody knows of a home directory.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k24_rllib"


def processor() -> bytes:
    """Returns what tells one kind of processor from another: what is compiled for one may not run on the other."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    told = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(told[:2]).encode()
