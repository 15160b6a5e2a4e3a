"""Results as a table on stdout and as a file of JSON, with what they were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Section, Target, number
from k24_rllib import __version__
from k24_rllib.cli.bench import BenchOptions
from k24_rllib.cli.ray_session import available_cpus

PACKAGES = ("torch", "ray", "numpy", "mpe2")
GAP = "  "


def versions() -> dict[str, str]:
    """Returns the versions of everything that a figure depends on."""
    installed = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **installed, "k24_rllib": __version__}


def machine() -> dict[str, Any]:
    """Returns what a figure was measured on."""
    return {"cpu": cpu_model(), "cores": available_cpus(), "system": f"{platform.system()} {platform.machine()}"}


def cpu_model() -> str:
    """Returns the processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def print_sections(sections: Sequence[Section]) -> None:
    """Prints every section's table and, last, how all targets stand."""
    where, parts = machine(), versions()
    print(f"{where['cpu']}, {where['cores']} cores; " + ", ".join(f"{name} {parts[name]}" for name in parts))
    for section in sections:
        print(f"\n{section.title}")
        print_table([section.heading, *section.rows])
        for note in section.notes:
            print(f"  {note}")
    targets = [target for section in sections for target in section.targets]
    if targets:
        print("\ntargets (they hold for the default sizes)")
        print_table([["what", "target", "measured", ""], *(target_row(target) for target in targets)])


def target_row(target: Target) -> list[str]:
    """Returns the row of a target."""
    measured = f"{number(target.measured.median)} {target.measured.unit}"
    return [target.what, target.wanted(), measured, "met" if target.met else "NOT met"]


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


def write_json(path: Path, sections: Sequence[Section], options: BenchOptions) -> None:
    """Writes everything that was measured."""
    content = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": {**machine(), "torch_threads": options.threads},
        "quick": options.quick,
        "sections": {section.name: section.to_json() for section in sections},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
