"""Results as a table on stdout and as a file of JSON, with what they were measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import BenchOptions
from benchmarks.results import Section, Target, number
from k24_rllib.reporting import machine, print_table, versions, write_measured

PACKAGES = ("torch", "ray", "numpy", "mpe2")


def print_sections(sections: Sequence[Section]) -> None:
    """Prints every section's table and, last, how all targets stand."""
    where, parts = machine(), versions(PACKAGES)
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


def write_json(path: Path, sections: Sequence[Section], options: BenchOptions) -> None:
    """Writes everything that was measured."""
    write_measured(
        path,
        PACKAGES,
        machine={**machine(), "torch_threads": options.threads},
        quick=options.quick,
        sections={section.name: section.to_json() for section in sections},
    )
