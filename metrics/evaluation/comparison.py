"""Trained models compared: values over training seeds and clips, and paired differences, with intervals over both."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from metrics.evaluation.intervals import INTERVALS, UNKNOWN, Interval, IntervalSettings


def crossed_interval(
    values: np.ndarray,
    clusters: Sequence[str],
    settings: IntervalSettings = INTERVALS,
    median: bool = False,
) -> Interval:
    """Student's interval of the mean of all values, of which training seeds and identities are two crossed samples.

    The variance of the mean is that over seeds and that over identities, added: their common part counts twice, so that the
    interval is rather too wide than too narrow; of two seeds it covers 88 % in the worst case, and a bootstrap far less.

    Args:
        values: ``(S, N)``, one row a training seed, one column a clip; NaN where a clip has none.
        clusters: ``(N,)`` the identity of each clip.
        settings: Of the interval; its draws are of identities.
        median: Of lags: the median instead of the mean.

    Returns:
        The interval; over identities alone where there is one seed, over seeds alone where there is one identity, without
        ends where there is one of both. ``n`` counts values.

    Source: Owen 2007, "The pigeonhole bootstrap" (Annals of Applied Statistics 1), for the variance of crossed samples;
    Satterthwaite 1946 for the degrees of freedom.
    """
    values, known = np.asarray(values, dtype=np.float64), np.isfinite(values)
    people = np.asarray(clusters, dtype=object)[known.any(axis=0)]
    values = values[known.any(axis=1)][:, known.any(axis=0)]
    count = int(known.sum())
    if not count:
        return UNKNOWN
    statistic = np.nanmedian if median else np.nanmean
    value = float(statistic(values))
    parts = (
        [(float(np.var(statistic(values, axis=1), ddof=1)) / len(values), len(values) - 1)]
        if len(values) > 1
        else []
    )
    if (number := len(set(people))) > 1:
        draws = _draws_of_people(values, people, settings, median)
        parts.append((float(np.var(draws)) * number / (number - 1), number - 1))
    if not parts:
        return Interval(value, None, None, count)
    total = sum(variance for variance, _ in parts)
    if not total:
        return Interval(value, value, value, count)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    reach = float(student.ppf((1 + settings.level) / 2, freedom)) * total**0.5
    return Interval(value, value - reach, value + reach, count)


def _draws_of_people(
    values: np.ndarray, people: np.ndarray, settings: IntervalSettings, median: bool
) -> np.ndarray:
    """The statistic when identities are drawn anew, ``(resamples,)``."""
    groups = [values[:, people == name] for name in sorted(set(people))]
    generator = np.random.default_rng(settings.seed)
    draws = generator.integers(len(groups), size=(settings.resamples, len(groups)))
    if median:
        return np.array([np.nanmedian(np.hstack([groups[place] for place in draw])) for draw in draws])
    sums, counts = np.array([[np.nansum(group), np.isfinite(group).sum()] for group in groups]).T
    return sums[draws].sum(axis=1) / counts[draws].sum(axis=1)


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
