"""What all that measures has in common: tables on stdout, files to write, and what a figure was measured with."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError

GAP = "  "


def output_file(option: str, given: str | None) -> Path | None:
    """Returns the file to write, once it is sure that it can be: hours of timing shouldn't end in a misspelt path."""
    if given is None:
        return None
    path = Path(given)
    if path.is_dir():
        raise ConfigError(f"{option} {given}: is a directory, expected a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {given}: no such directory as {path.parent}")
    return path


def write_measured(path: Path, packages: Sequence[str], **content: Any) -> None:
    """Writes figures as JSON with date, versions of `packages` and machine, unless `content` has its own of these."""
    stamp = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(packages),
        "machine": machine(),
    }
    path.write_text(json.dumps({**stamp, **content}, indent=1) + "\n")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of everything that a figure depends on: Python, `packages` and this one."""
    from k24_rllib import __version__

    installed = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **installed, "k24_rllib": __version__}


def machine() -> dict[str, Any]:
    """Returns what a figure was measured on."""
    return {"cpu": cpu_model(), "cores": available_cpus(), "system": f"{platform.system()} {platform.machine()}"}


def available_cpus() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Returns the processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def duration(seconds: float) -> str:
    """Returns `seconds` as `5:20` or `1:05:20`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_error(message: str) -> None:
    """Prints what went wrong as one line on stderr, in the words of the program."""
    print(f"rllib: error: {message}", file=sys.stderr, flush=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows with columns as wide as they need; an empty row parts two tables, each with widths of its own."""
    if [] in rows:
        cut = list(rows).index([])
        print_table(rows[:cut])
        print()
        print_table(rows[cut + 1 :])
        return
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    for row in rows:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        )
        print(GAP + GAP.join([first, *rest]).rstrip())
