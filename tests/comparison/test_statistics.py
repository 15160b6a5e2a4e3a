"""Interquartile means and their intervals, against values by hand and against bootstraps written as plain loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from k24_rllib.comparison.statistics import (
    difference,
    estimate,
    estimate_curve,
    interquartile_mean,
    probability_of_improvement,
)

RNG = np.random.default_rng(7)
FIVE, SIX = RNG.normal(-45.0, 3.0, 5), RNG.normal(-42.0, 2.0, 6)


def by_hand(values: np.ndarray) -> float:
    """The interquartile mean as one would write it down: sort, drop a quarter (rounded down) at either end."""
    ordered, cut = sorted(values), len(values) // 4
    return sum(ordered[cut : len(ordered) - cut]) / (len(ordered) - 2 * cut)


def looped(statistic: Callable[..., float], *samples: np.ndarray, repeats: int = 6000) -> tuple[float, float]:
    """The percentile interval of a bootstrap that resamples each sample on its own."""
    rng = np.random.default_rng(1)
    found = [statistic(*(sample[rng.integers(len(sample), size=len(sample))] for sample in samples))
             for _ in range(repeats)]  # fmt: skip
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([1.0, 2.0, 3.0, 1000.0], 2.5), ([-50.0, 1.0, 2.0, 3.0, 90.0], 2.0), ([1.0, 2.0, 6.0], 3.0), ([4.0], 4.0),
     ([9.0, 0.0, 5.0, 7.0, 1.0, 3.0, 2.0, 100.0], 4.25)],
)  # fmt: skip
def test_interquartile_means_by_hand(values: list[float], mean: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(mean)


def test_all_resamples_of_three_runs() -> None:
    """Of 27 equally probable resamples, one has the least run three times: more than 2.5%, so it is the lower end."""
    found = estimate([np.array([-50.0, -40.0, -45.0])])
    assert (found.value, found.low, found.high) == pytest.approx((-45.0, -50.0, -40.0))


def test_an_interval_against_a_plain_loop() -> None:
    found = estimate([FIVE])
    assert found.value == pytest.approx(by_hand(FIVE))
    assert (found.low, found.high) == pytest.approx(looped(by_hand, FIVE), abs=0.2)


def test_the_bootstrap_is_stratified_over_environments() -> None:
    """Scales far apart: mixing environments when resampling would move the mean by tens."""
    strata = [FIVE, SIX + 200.0]
    found = estimate(strata)
    assert found.value == pytest.approx(by_hand(np.concatenate(strata)))
    expected = looped(lambda a, b: by_hand(np.concatenate((a, b))), *strata)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.3)
    assert found.low is not None
    assert found.high is not None
    mixed = looped(by_hand, np.concatenate(strata))
    assert found.high - found.low < (mixed[1] - mixed[0]) / 5


def test_a_difference_against_a_plain_loop() -> None:
    found = difference([SIX], [FIVE])
    assert found.value == pytest.approx(by_hand(SIX) - by_hand(FIVE))
    assert (found.low, found.high) == pytest.approx(looped(lambda a, b: by_hand(a) - by_hand(b), SIX, FIVE), abs=0.25)


def test_a_probability_counts_pairs_and_halves_ties() -> None:
    def pairs(mine: np.ndarray, its: np.ndarray) -> float:
        return float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in mine for b in its]))

    mine, its = np.array([1.0, 3.0, 5.0]), np.array([2.0, 3.0, 0.0])
    assert probability_of_improvement([mine], [its]).value == pytest.approx((1 + 2.5 + 3) / 9)
    found = probability_of_improvement([SIX], [FIVE])
    assert found.value == pytest.approx(pairs(SIX, FIVE))
    assert (found.low, found.high) == pytest.approx(looped(pairs, SIX, FIVE), abs=0.04)
    two = probability_of_improvement([mine, SIX], [its, FIVE])
    assert two.value == pytest.approx((pairs(mine, its) + pairs(SIX, FIVE)) / 2)


def test_a_single_run_has_no_interval() -> None:
    assert estimate([np.array([-40.0])]).low is None
    assert difference([np.array([-40.0])], [FIVE]).high is None
    values, low, high = estimate_curve(np.array([[1.0, 2.0]]))
    assert (values.tolist(), low, high) == ([1.0, 2.0], None, None)


def test_a_curve_resamples_whole_runs() -> None:
    """Two steps that are the same runs, shifted, have the same band, shifted."""
    values, low, high = estimate_curve(np.stack((FIVE, FIVE + 10.0), axis=1))
    assert low is not None
    assert high is not None
    assert values.tolist() == pytest.approx([by_hand(FIVE), by_hand(FIVE) + 10.0])
    assert np.diff(low) == pytest.approx(10.0)
    assert (low[0], high[0]) == pytest.approx(looped(by_hand, FIVE), abs=0.3)


def test_the_same_runs_give_the_same_interval() -> None:
    assert estimate([FIVE]) == estimate([FIVE.copy()])
