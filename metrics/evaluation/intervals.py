"""Confidence intervals by identity: clips of one face are alike, so whole identities are drawn or left out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are found: coverage, draws of a bootstrap and their seed."""

    level: float = 0.95
    resamples: int = 1000
    seed: int = 0


INTERVALS = IntervalSettings()


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval."""

    value: float | None  # the statistic over all clips; None where no clip has a value
    # lower end of the interval; None with fewer than two identities, or where draws of them have no value
    low: float | None
    high: float | None  # upper end of the interval, likewise
    n: int  # number of clips behind the value

    def not_below(self, least: float) -> "Interval":
        """The interval as far as the value can lie in it, as no distance is negative."""
        return self if self.low is None else replace(self, low=max(self.low, least))


UNKNOWN = Interval(None, None, None, 0)


def mean(rows: np.ndarray) -> float:
    """Mean over the clips of the first column of ``rows`` ``(n, k)``."""
    return float(rows[:, 0].mean())


def median(rows: np.ndarray) -> float:
    """Median over the clips of the first column of ``rows`` ``(n, k)``."""
    return float(np.median(rows[:, 0]))


def cluster_bootstrap(
    values: Sequence[float | None] | np.ndarray,
    clusters: Sequence[str],
    statistic: Statistic = mean,
    settings: IntervalSettings = INTERVALS,
) -> Interval:
    """Percentile interval of a statistic when whole clusters (identities) are resampled.

    Args:
        values: ``(n,)`` one value a clip or ``(n, k)`` several; clips that lack one (None, NaN) are left out.
        clusters: ``(n,)`` the identity of each clip.
        statistic: Maps ``(m, k)`` clip rows to one number.
        settings: Of intervals.

    Raises:
        ValueError: Lengths differ.

    Source: Field and Welsh 2007, "Bootstrapping clustered data" (the cluster bootstrap).
    """
    rows = np.asarray(values, dtype=np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if len(rows) != len(clusters):
        raise ValueError(f"{len(rows)} values but {len(clusters)} cluster names")
    known = np.isfinite(rows).all(axis=1)
    rows, names = rows[known], np.asarray(clusters, dtype=object)[known]
    value = float(statistic(rows)) if len(rows) else float("nan")
    if not np.isfinite(value):
        return UNKNOWN
    groups = [rows[names == name] for name in sorted(set(names))]
    alone = Interval(value, None, None, len(rows))
    if len(groups) < 2:
        return alone
    generator = np.random.default_rng(settings.seed)
    draws = generator.integers(len(groups), size=(settings.resamples, len(groups)))
    if statistic is mean:  # the same numbers as below, in one step
        sums, counts = np.array([group[:, 0].sum() for group in groups]), np.array([len(g) for g in groups])
        samples = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    else:
        samples = np.array([statistic(np.concatenate([groups[index] for index in draw])) for draw in draws])
    if not np.isfinite(samples).all():
        return alone
    tail = (1 - settings.level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(value, float(low), float(high), len(rows))


def cluster_jackknife(
    statistic: Callable[[Collection[int]], float],
    clusters: Sequence[str],
    settings: IntervalSettings = INTERVALS,
) -> Interval:
    """Normal interval of a statistic over all clips at once, by leaving out one cluster (identity) at a time.

    For distances between distributions: resampling repeats clips, which brings a distribution nearer to none.

    Args:
        statistic: Maps the indices of the clips that are kept to one number, NaN where it cannot be told.
        clusters: ``(n,)`` the identity of each clip.
        settings: Of intervals.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", equation 11.5, on clusters.
    """
    names = sorted(set(clusters))
    value = float(statistic(range(len(clusters))))
    if not np.isfinite(value):
        return UNKNOWN
    left = np.array([statistic([i for i, name in enumerate(clusters) if name != out]) for out in names])
    if len(names) < 3 or not np.isfinite(left).all():
        return Interval(value, None, None, len(clusters))
    error = np.sqrt((len(names) - 1) * left.var())
    reach = float(NormalDist().inv_cdf((1 + settings.level) / 2) * error)
    return Interval(value, value - reach, value + reach, len(clusters))
