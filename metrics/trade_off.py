"""Trade-offs of a sweep: does a measure answer monotonely, which points are best, which way is best at equal motion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from metrics.evaluation.intervals import INTERVALS, Interval, IntervalSettings

MOST_UNREACHED = 0.05
"""Share of the bootstrap's draws in which a series may miss a level of motion, so that it still has an interval there."""


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation of two sequences of the same length; NaN where one is constant or there are fewer than two."""
    if min(len(set(first)), len(set(second))) < 2:
        return np.nan
    return float(spearmanr(first, second).statistic)


def pareto_front(motion: Sequence[float], quality: Sequence[float], higher: bool = True) -> list[int]:
    """Indices of the points that no other beats, by rising motion.

    A point is beaten by another with at least as much motion and at least as good a quality, one of them better; NaN are
    never on the front. ``higher``: whether more of the quality is better.
    """
    signed = np.asarray(quality, float) * (1 if higher else -1)
    points = [(float(m), float(q), i) for i, (m, q) in enumerate(zip(motion, signed, strict=True))]
    points = [point for point in points if np.isfinite(point[:2]).all()]
    front = [
        (m, i)
        for m, q, i in points
        if not any(om >= m and oq >= q and (om > m or oq > q) for om, oq, _ in points)
    ]
    return [i for _, i in sorted(front)]


@dataclass(frozen=True)
class MotionCurve:
    """One way of controlling motion: ``(V, N)`` motion and quality of N clips, the same in all curves, at V settings."""

    motion: np.ndarray
    quality: np.ndarray

    def at(self, levels: np.ndarray, clips: np.ndarray | None = None) -> np.ndarray:
        """Quality ``(L,)`` at levels of mean motion, of some of the clips: linear between neighbouring settings.

        Where more than one pair of settings has a level between them, by the first. NaN outside of what they reach.
        """
        chosen = slice(None) if clips is None else clips
        motion, quality = self.motion[:, chosen].mean(axis=1), self.quality[:, chosen].mean(axis=1)
        low, high = np.minimum(motion[:-1], motion[1:]), np.maximum(motion[:-1], motion[1:])
        found = np.full(len(levels), np.nan)
        for place, level in enumerate(levels):
            if len(pairs := np.flatnonzero((low <= level) & (level <= high))):
                ends = slice(pairs[0], pairs[0] + 2)
                order = np.argsort(motion[ends])
                found[place] = np.interp(level, motion[ends][order], quality[ends][order])
        return found


def common_levels(curves: Mapping[str, MotionCurve], count: int = 5) -> np.ndarray:
    """Levels ``(L,)`` of motion, evenly spread inside the range where at least two curves are; empty: they never meet."""
    ends = [(means.min(), means.max()) for means in (curve.motion.mean(axis=1) for curve in curves.values())]
    starts, stops = sorted(low for low, _ in ends), sorted(high for _, high in ends)
    if len(ends) < 2 or starts[1] >= stops[-2]:
        return np.empty(0)
    return np.linspace(starts[1], stops[-2], count + 2)[1:-1]


@dataclass(frozen=True)
class Level:
    """Quality of each series at one level of motion; those that don't reach it are not there.

    ``best`` names the best of them; ``margin`` is how much better it is than the second best, above 0 where it is better.
    """

    motion: float
    quality: dict[str, Interval]
    best: str | None
    second: str | None
    margin: Interval | None

    @property
    def clear(self) -> bool:
        """Whether the interval of the margin excludes 0."""
        return self.margin is not None and self.margin.low is not None and self.margin.low > 0


def at_equal_motion(
    curves: Mapping[str, MotionCurve],
    clusters: Sequence[str],
    levels: np.ndarray,
    higher: bool = True,
    settings: IntervalSettings = INTERVALS,
) -> list[Level]:
    """Compare series at equal measured motion, with intervals by a bootstrap over clusters (identities) of the N clips.

    All series are drawn together, so that their differences are paired.
    """
    names, clips = sorted(set(clusters)), len(clusters)
    members = [np.flatnonzero(np.asarray(clusters, dtype=object) == name) for name in names]
    generator = np.random.default_rng(settings.seed)
    draws = generator.integers(len(names), size=(settings.resamples, len(names)))
    drawn = [np.concatenate([members[place] for place in draw]) for draw in draws] if len(names) > 1 else []
    values = {name: curve.at(levels) for name, curve in curves.items()}
    samples = {
        name: np.array([curve.at(levels, kept) for kept in drawn]).reshape(len(drawn), len(levels))
        for name, curve in curves.items()
    }
    sign = 1 if higher else -1
    found = []
    for place, motion in enumerate(levels):
        known = {name: float(value[place]) for name, value in values.items() if np.isfinite(value[place])}
        order = sorted(known, key=lambda name: -sign * known[name])
        quality = {
            name: _interval(value, samples[name][:, place], clips, settings) for name, value in known.items()
        }
        margin = None
        if len(order) > 1:
            best, second = order[:2]
            differences = sign * (samples[best][:, place] - samples[second][:, place])
            margin = _interval(sign * (known[best] - known[second]), differences, clips, settings)
        best_known, second_known = (*order, None, None)[:2]
        found.append(Level(float(motion), quality, best_known, second_known, margin))
    return found


def _interval(value: float, samples: np.ndarray, clips: int, settings: IntervalSettings) -> Interval:
    reached = samples[np.isfinite(samples)]
    if not len(samples) or len(reached) < (1 - MOST_UNREACHED) * len(samples):
        return Interval(value, None, None, clips)
    tail = (1 - settings.level) / 2
    low, high = np.quantile(reached, [tail, 1 - tail])
    return Interval(value, float(low), float(high), clips)
