"""The table of docs/tasks.md is the one that its data gives."""

from __future__ import annotations

from pathlib import Path

from benchmarks.campaign_table import markdown
from k24_rllib.comparison.sources import CompareOptions, compare

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_made_from_the_data() -> None:
    table = markdown(compare([str(DOCS / "data" / "tasks.csv")], CompareOptions()))
    assert table in (DOCS / "tasks.md").read_text()
