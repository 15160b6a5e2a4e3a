"""Runs the benchmarks that were asked for, one after the other, and reports."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import end_to_end, environment, report, rollout, scaling, update
from benchmarks.options import BenchOptions
from benchmarks.results import Section

BENCHMARKS: dict[str, Callable[[BenchOptions, Callable[[str], None]], Section]] = {
    "environment": environment.measure,
    "rollout": rollout.measure,
    "update": update.measure,
    "end-to-end": end_to_end.measure,
    "scaling": scaling.measure,
}


def run(options: BenchOptions) -> None:
    """Measures, prints the tables on stdout and writes the files that were asked for; says on stderr where it is."""
    sections = [BENCHMARKS[name](options, say) for name in options.what]
    report.print_sections(sections)
    if options.json is not None:
        report.write_json(options.json, sections, options)
    if options.figure is not None:
        from benchmarks.figure import draw

        draw(next(section for section in sections if section.name == "scaling"), options.figure)


def say(line: str) -> None:
    """Says what is being measured."""
    print(line, file=sys.stderr, flush=True)
