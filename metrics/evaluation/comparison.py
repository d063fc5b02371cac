"""Trained models compared: values over training seeds and clips, and paired differences, with intervals over both."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from metrics.evaluation.intervals import INTERVALS, UNKNOWN, Interval, IntervalSettings


def crossed_bootstrap(
    values: np.ndarray,
    clusters: Sequence[str],
    settings: IntervalSettings = INTERVALS,
    median: bool = False,
) -> Interval:
    """Percentile interval of the mean of all values, when training seeds and identities are drawn anew, each by itself.

    Args:
        values: ``(S, N)``, one row a training seed, one column a clip; NaN where a clip has none.
        clusters: ``(N,)`` the identity of each clip.
        settings: of the interval.
        median: of lags: the median instead of the mean.

    Returns:
        The interval; without ends where there is one seed and one identity. ``n`` counts values.

    Source: Owen 2007, "The pigeonhole bootstrap" (Annals of Applied Statistics 1), for crossed factors.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values).any(axis=1)]  # a seed without any value is none
    known = np.isfinite(values)
    count = int(known.sum())
    if not count:
        return UNKNOWN
    statistic = np.nanmedian if median else np.nanmean
    names = sorted(set(clusters))
    alone = Interval(float(statistic(values[known])), None, None, count)
    if len(values) < 2 and len(names) < 2:
        return alone
    places = [np.flatnonzero([one == name for one in clusters]) for name in names]
    generator = np.random.default_rng(settings.seed)
    seeds = generator.integers(len(values), size=(settings.resamples, len(values)))
    people = generator.integers(len(names), size=(settings.resamples, len(names)))
    if median:
        drawn = (
            values[np.ix_(row, np.concatenate([places[one] for one in own]))]
            for row, own in zip(seeds, people, strict=True)
        )
        samples = np.array([np.nanmedian(one) if np.isfinite(one).any() else np.nan for one in drawn])
    else:
        sums = np.stack([np.where(known, values, 0)[:, own].sum(axis=1) for own in places], axis=1)
        counts = np.stack([known[:, own].sum(axis=1) for own in places], axis=1)
        rows, columns = seeds[:, :, None], people[:, None, :]
        with np.errstate(invalid="ignore"):
            samples = sums[rows, columns].sum(axis=(1, 2)) / counts[rows, columns].sum(axis=(1, 2))
    if not np.isfinite(samples).all():
        return alone
    tail = (1 - settings.level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return replace(alone, low=float(low), high=float(high))


def seed_interval(values: Sequence[float], settings: IntervalSettings = INTERVALS) -> Interval:
    """Mean and Student's interval over training seeds, for distances that no single clip has.

    ``values`` is one a seed. With a single one there is no interval.
    """
    found = np.asarray(values, dtype=np.float64)
    if not len(found) or not np.isfinite(found).all():
        return UNKNOWN
    mean = float(found.mean())
    if len(found) < 2:
        return Interval(mean, None, None, len(found))
    reach = float(
        student.ppf((1 + settings.level) / 2, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    )
    return Interval(mean, mean - reach, mean + reach, len(found))
