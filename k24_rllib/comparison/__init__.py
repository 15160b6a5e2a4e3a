"""Methods and seeds: runs read from disk, methods made of them, statistics, tables and figures.

From Python as `rllib compare` does it:

    comparisons = compare(["k24=~/ray_results/k24-spread", "dense=~/ray_results/qmix-spread"])
    tables = make_tables(comparisons)
    print_tables(tables)
    draw(comparisons, "curves.png")
"""

from k24_rllib.comparison.figure import draw, make_figure
from k24_rllib.comparison.methods import Comparison, Method, compare_runs
from k24_rllib.comparison.points_csv import read_points, write_points
from k24_rllib.comparison.runs import Run, find_trials, read_trial
from k24_rllib.comparison.sources import CompareOptions, compare, make_tables
from k24_rllib.comparison.table import Budget, Table, print_tables, write_json

__all__ = [
    "Budget",
    "CompareOptions",
    "Comparison",
    "Method",
    "Run",
    "Table",
    "compare",
    "compare_runs",
    "draw",
    "find_trials",
    "make_figure",
    "make_tables",
    "print_tables",
    "read_points",
    "read_trial",
    "write_json",
    "write_points",
]
