"""`python -m benchmarks.campaign_table FILE.csv ...`: a campaign as a Markdown table, a row for each task.

Cells are interquartile means of the greedy return with 95% bootstrap intervals, as `rllib compare` has them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np

from k24_rllib.checks import ConfigError
from k24_rllib.command_line import Parser, exit_code
from k24_rllib.comparison.methods import Comparison
from k24_rllib.comparison.sources import CompareOptions, compare
from k24_rllib.comparison.statistics import Estimate, difference
from k24_rllib.comparison.table import Budget, Table, make_table

MINUS = "independent minus QMIX"
INDEPENDENT, SHARED = "independent", "QMIX"
"""The two methods whose difference says what a shared network with agent ids loses."""


def task_name(comparison: Comparison) -> str:
    """Returns what a row is called: the environment, and its options."""
    options = [f"{key}: {json.dumps(value)}" for key, value in comparison.environment.config.items()]
    return f"`{comparison.environment.name}`" + (f" `{', '.join(options)}`" if options else "")


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Returns the table: a row for each task, a column for each method, the scale, and what sharing loses."""
    tables = [make_table(comparison, Budget(), ()) for comparison in comparisons]
    methods = list(dict.fromkeys(row.method for table in tables for row in table.rows))
    lines = [
        "| " + " | ".join(["task", "steps", "seeds", *methods, MINUS, "random, best known"]) + " |",
        "| " + " | ".join(["---"] * (len(methods) + 5)) + " |",
    ]
    for comparison, table in zip(comparisons, tables, strict=True):
        rows = {row.method: row for row in table.rows}
        form = _form(table)
        seeds = sorted({len(row.seeds) for row in table.rows})
        cells = [
            task_name(comparison),
            f"{max(step for row in table.rows for step in row.env_steps):,}",
            str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
            *(_cell(rows[name].greedy_return if name in rows else None, form) for name in methods),
            _cell(_gap(table), f"+{form}"),
            "-" if table.reference is None else ", ".join(f"{end:{form}}" for end in table.reference),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gap(table: Table) -> Estimate | None:
    """Returns what independent networks gain over a shared one, where both were run."""
    returns = {row.method: row.returns for row in table.rows}
    if INDEPENDENT not in returns or SHARED not in returns:
        return None
    return difference([np.array(returns[INDEPENDENT])], [np.array(returns[SHARED])])


def _cell(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _form(table: Table) -> str:
    """Returns how a task's returns are written: small ones with two decimals."""
    largest = max(abs(value) for row in table.rows for value in row.returns)
    return ".2f" if largest < 10.0 else ".1f"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table of the CSV files that the words `argv` name and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog="python -m benchmarks.campaign_table", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("files", nargs="*", metavar="FILE.csv", help="what a campaign's --csv wrote")

    def run() -> int:
        files = parser.parse(words).files
        if not files:
            raise ConfigError("which campaign? expected FILE.csv, as --csv of benchmarks.campaign writes it")
        print(markdown(compare(files, CompareOptions())))
        return 0

    return exit_code(run, words)


if __name__ == "__main__":
    sys.exit(main())
