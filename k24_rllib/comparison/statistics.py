"""Interquartile means with 95% intervals (Agarwal et al. 2021, arXiv 2108.13264).

The bootstrap is SciPy's. The paper's own library, rliable, was tried and left out: its last release (1.2.0, 2024)
holds `arch` below 8, which does not import beside today's pandas 3; it brings seaborn and statsmodels along, wants as
many runs of every task, and draws from NumPy's global state, so that a seed does not repeat its intervals. SciPy
resamples each sample that it is given on its own, which is the stratified bootstrap where a sample is a stratum.

Shapes: a stratum is `[R]`, one number for each of `R` runs of one environment, or `[R, G]` for a curve of `G` steps.
Several environments are several strata, which may have different numbers of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
"""More moves the interval's ends less from one seed of the bootstrap to the next."""
CURVE_RESAMPLES = 2_000
BOOTSTRAP_SEED = 0
TRIM = 0.25
FEWEST_TRUSTED = 4
"""With fewer runs nothing is trimmed, and an interval has too few different resamples to be one of 95%."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval; a single run has none."""

    value: float
    low: float | None = None
    high: float | None = None

    def scaled(self, scale: float, shift: float = 0.0) -> Estimate:
        """Returns `scale * (self + shift)`; `scale` is above 0."""
        low, high = (None if end is None else scale * (end + shift) for end in (self.low, self.high))
        return Estimate(scale * (self.value + shift), low, high)


def interquartile_mean(*strata: Array, axis: int = -1) -> Any:
    """Returns the mean of the middle half of all runs, a quarter of them being cut off at either end.

    It is robust to outliers as the median is, and uses more of the runs. Of fewer than four runs nothing is cut off.
    """
    from scipy import stats  # half a second, which help and errors need not wait for

    return stats.trim_mean(np.concatenate(strata, axis=axis), TRIM, axis=axis)


def estimate(strata: Sequence[Array]) -> Estimate:
    """Returns the interquartile mean of `strata` with its interval from a bootstrap stratified over them."""
    value = float(interquartile_mean(*strata))
    return _with_interval(value, strata, interquartile_mean)


def estimate_curve(runs: Array) -> tuple[Array, Array | None, Array | None]:
    """Returns the interquartile mean of `runs [R, G]` at each step and the ends of its interval, `[G]` each.

    Whole runs are resampled, so that the band belongs to curves and not to unrelated points. One run has no interval.
    """
    values = np.asarray(interquartile_mean(runs, axis=0))
    if len(runs) < 2:
        return values, None, None
    interval = _bootstrap([runs], interquartile_mean, axis=0, resamples=CURVE_RESAMPLES)
    return values, np.asarray(interval.low), np.asarray(interval.high)


def estimate_mean_curve(strata: Sequence[Array]) -> tuple[Array, Array | None, Array | None]:
    """Returns the mean over strata of their runs' mean at each of `G` points and the ends of its interval, `[G]` each.

    Args:
        strata: `[R, G]` each. Whole runs are resampled, within their stratum; a single run has no interval.
    """

    def mean(*samples: Array, axis: int = -1) -> Any:
        return np.mean([runs.mean(axis) for runs in samples], axis=0)

    values = np.asarray(mean(*strata, axis=0))
    if min(map(len, strata)) < 2:
        return values, None, None
    interval = _bootstrap(strata, mean, axis=0, resamples=CURVE_RESAMPLES)
    return values, np.asarray(interval.low), np.asarray(interval.high)


def difference(strata: Sequence[Array], first: Sequence[Array]) -> Estimate:
    """Returns how far the interquartile mean of `strata` lies above that of `first`, with its interval."""
    count = len(strata)

    def gap(*samples: Array, axis: int = -1) -> Any:
        return interquartile_mean(*samples[:count], axis=axis) - interquartile_mean(*samples[count:], axis=axis)

    both = [*strata, *first]
    return _with_interval(float(gap(*both)), both, gap)


def probability_of_improvement(strata: Sequence[Array], first: Sequence[Array]) -> Estimate:
    """Returns how probably a run of `strata` is better than one of `first`, averaged over environments.

    `P(X > Y) + P(X = Y) / 2` over all pairs of runs (2108.13264, section 4.3; Mann and Whitney's statistic).
    """
    count = len(strata)

    def wins(*samples: Array, axis: int = -1) -> Any:
        each = []
        for mine, its in zip(samples[:count], samples[count:], strict=True):
            gaps = np.expand_dims(mine, -1) - np.expand_dims(its, -2)  # [..., R, R of first]
            each.append(((np.sign(gaps) + 1) / 2).mean((-2, -1)))
        return np.mean(each, axis=0)

    both = [*strata, *first]
    return _with_interval(float(wins(*both)), both, wins)


def _with_interval(value: float, samples: Sequence[Array], statistic: Callable[..., Any]) -> Estimate:
    if min(map(len, samples)) < 2:
        return Estimate(value)
    interval = _bootstrap(samples, statistic, axis=-1, resamples=RESAMPLES)
    low, high = float(interval.low), float(interval.high)
    return Estimate(value, low, high) if math.isfinite(low) and math.isfinite(high) else Estimate(value)


def _bootstrap(samples: Sequence[Array], statistic: Callable[..., Any], *, axis: int, resamples: int) -> Any:
    """Returns the percentile interval of `statistic`, each sample being resampled on its own."""
    from scipy import stats

    found = stats.bootstrap(
        tuple(samples),
        statistic,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        axis=axis,
        vectorized=True,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return found.confidence_interval
