"""Following of statistics: the std that was asked of windows of motion against the std that they have.

Motion is in coordinates of the model's basis, whatever it was read from: what was sampled, or rendered frames encoded again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datamodules.batches import window_starts


@dataclass(frozen=True)
class FollowingSettings:
    """Which windows and requests are looked at."""

    window: int = 64  # frames of a window; its statistics cover the frame before it, too
    fewest: int = 32  # frames of motion shorter than a window that is judged all the same
    least: float = 0.25  # smallest factor on the estimated std that the line is fitted to
    most: float = 2.0  # largest


FOLLOWING = FollowingSettings()


@dataclass(frozen=True)
class Line:
    """How realised values answer to requested ones: ``realised = offset + slope * requested``, an offset a window.

    ``slope`` 1 with ``offset`` 0 (their mean) is exact; ``r2`` is the share of the variance of the realised values inside the
    windows that the slope explains.
    """

    slope: float
    offset: float
    r2: float


def judged_windows(frames: int, settings: FollowingSettings = FOLLOWING) -> dict[int, int]:
    """Number and first frame of the windows, of motion of so many frames, that are there as they were made.

    All are but the one that the last window begins within; motion of under ``fewest`` frames has none.
    """
    starts = window_starts(frames, settings.window)
    ends = [*starts[1:], frames]
    least = min(settings.window, max(frames, settings.fewest))
    return {place: start for place, start in enumerate(starts) if ends[place] - start >= least}


def realised_std(
    coordinates: np.ndarray, before: np.ndarray, settings: FollowingSettings = FOLLOWING
) -> np.ndarray:
    """Unbiased std ``(W, M)`` of each of the `judged_windows` of motion ``(T, M)`` and of the frame before it.

    ``before`` ``(M,)`` is the frame before the first: the source's.

    Source: the statistics that stage 3 is trained with.
    """
    whole, window = np.concatenate([before[None], coordinates]), settings.window
    kept = judged_windows(len(coordinates), settings).values()
    found = [whole[start : start + window + 1].std(axis=0, ddof=1) for start in kept]
    return np.array(found).reshape(len(kept), coordinates.shape[1])


def block_std(std: np.ndarray, block: slice) -> np.ndarray:
    """Std of a block of the basis: RMS over its dimensions, ``(..., M)`` -> ``(...)``."""
    return np.sqrt(np.square(std[..., block]).mean(axis=-1))


def fit_line(requested: np.ndarray, realised: np.ndarray) -> Line:
    """Least squares lines of one slope through V points of each of N windows, ``(V, N)``; NaN where requests don't differ.

    What differs between windows is no answer to the request: a window that moves more by itself is asked for more, too.
    """
    x, y = requested - requested.mean(axis=0), realised - realised.mean(axis=0)
    if not x.any():
        return Line(np.nan, np.nan, np.nan)
    slope = float((x * y).sum() / (x * x).sum())
    total = float((y * y).sum())
    r2 = 1 - float(np.square(y - slope * x).sum()) / total if total else np.nan
    return Line(slope, float(realised.mean() - slope * requested.mean()), r2)


def saturation(factors: np.ndarray, requested: np.ndarray, realised: np.ndarray) -> float:
    """How much less large requests are followed than small ones: 0 = alike, 1 = not at all any more, below 0 = better.

    One minus the ratio of two slopes, see `fit_line`: of the requests from the estimated std on (``factors`` ``(V,)`` of at
    least 1) to that of those up to it. NaN where small requests aren't followed, so that there is nothing to compare with.
    """
    small, large = (fit_line(requested[part], realised[part]).slope for part in (factors <= 1, factors >= 1))
    return 1 - large / small if small > 0 and np.isfinite(large) else np.nan


def in_range(factors: np.ndarray, settings: FollowingSettings = FOLLOWING) -> np.ndarray:
    """Which of the factors ``(N,)`` on the estimated std the line is fitted to."""
    return (factors >= settings.least) & (factors <= settings.most)


def cross_talk(at_one: Mapping[str, np.ndarray], at_two: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Relative change of the realised std of blocks that nothing more was asked of, when it was doubled of others.

    Realised std ``(N,)`` of the same windows by block, as estimated and with the doubled request; NaN of a block at rest.
    """
    return {
        name: float(at_two[name].mean() / at_one[name].mean() - 1) if at_one[name].mean() > 0 else np.nan
        for name in at_one
    }
