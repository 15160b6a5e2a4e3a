"""Performance profiles: shares of runs counted by hand, intervals that are none for single runs, a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.profile import draw_profiles, profiles
from k24_rllib.comparison.statistics import Estimate
from k24_rllib.comparison.table import Row, Table


def table(task: str, reference: tuple[float, float] | None, **returns: list[float]) -> Table:
    rows = [Row(name, [], [], values, Estimate(float(np.mean(values)))) for name, values in returns.items()]
    return Table(f"{task}: greedy team return", rows, reference=reference)


def test_shares_are_those_of_the_runs_and_every_task_counts_as_much() -> None:
    one = table("one", (0.0, 10.0), ours=[2.0, 6.0, 6.0, 10.0], theirs=[0.0, 0.0])
    other = table("other", (-1.0, 1.0), ours=[0.0, 1.0], theirs=[1.0, 1.0])
    ours, theirs = profiles([one, other])
    at = {score: int(np.searchsorted(ours.scores, score - 1e-9)) for score in (0.0, 0.5, 0.6, 0.75, 1.0)}
    assert ours.share[at[0.0]] == 1.0
    assert ours.share[at[0.5]] == pytest.approx((3 / 4 + 2 / 2) / 2)
    assert ours.share[at[0.75]] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert theirs.share[at[0.6]] == pytest.approx((0 + 1) / 2)
    assert (ours.runs, theirs.runs) == (6, 4)
    assert (np.diff(ours.share) <= 1e-12).all()


def test_intervals_hold_the_share_and_repeat() -> None:
    rng = np.random.default_rng(0)
    tables = [table(name, (0.0, 1.0), ours=rng.random(8).tolist()) for name in ("one", "other")]
    (first,), (again,) = profiles(tables), profiles(tables)
    assert first.low is not None
    assert first.high is not None
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low <= first.share + 1e-12).all()
    assert (first.share <= first.high + 1e-12).all()
    middle = len(first.scores) // 2
    drawn = [[rng.choice(its.rows[0].returns, 8) for its in tables] for _ in range(4000)]
    sampled = (np.array(drawn) >= first.scores[middle]).mean((1, 2))
    assert first.low[middle] == pytest.approx(np.quantile(sampled, 0.025), abs=0.08)
    assert first.high[middle] == pytest.approx(np.quantile(sampled, 0.975), abs=0.08)


def test_a_single_run_has_no_interval_and_is_drawn_all_the_same(tmp_path: Path) -> None:
    found = profiles([table("one", (0.0, 1.0), ours=[0.4], theirs=[1.3])])
    assert found[0].low is found[0].high is None
    assert found[0].scores[-1] == pytest.approx(1.3)
    draw_profiles(found, 1, tmp_path / "profile.png")
    assert Image.open(tmp_path / "profile.png").size == (910, 624)


def test_what_has_no_score_is_named() -> None:
    tables = [table("one", (0.0, 1.0), ours=[1.0]), table("mine", None, ours=[1.0])]
    with pytest.raises(ConfigError, match="--profile: nobody knows a score of mine"):
        profiles(tables)
    with pytest.raises(ConfigError, match="no method was run in every task"):
        profiles([table("one", (0.0, 1.0), ours=[1.0]), table("other", (0.0, 1.0), theirs=[1.0])])
