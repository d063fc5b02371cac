"""What measures are asked with: one row of a clip; and the functions that put several of a measure's inputs together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from datamodules.clips.phones import Phone
from metrics.av_correlation import LipRegressor
from metrics.base import known_mean
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.views import View
from metrics.landmarks import LandmarkSettings, mouth_distance, rigid_jitter
from metrics.motion import JitterSettings, LagSettings, jitter, lagged_correlation


@dataclass(frozen=True)
class FrameContext:
    """What measures of a row's frames are given."""

    protocol: Protocol
    judges: Judges
    view: View  # the row
    real: View  # the real clip, as many frames
    source: np.ndarray | None = None  # (D,) embedding of the source frame, or None
    # the still source frame through the codec, which shows the detector's own trembling; None: not taken off
    floor: View | None = None
    takes: tuple[View, ...] = ()  # views of all takes of the row

    def part(self, which: slice) -> "FrameContext":
        """The context of a part of the frames."""
        return replace(self, view=self.view.part(which), real=self.real.part(which))


@dataclass(frozen=True)
class SpeechContext:
    """What measures of lips and speech are given, which need no frames."""

    protocol: Protocol
    lips: np.ndarray  # (T,) lip opening of the row
    real: np.ndarray  # (T',) of the real clip, T <= T'
    waveform: np.ndarray | None = None  # (640 T',) speech that the lips are held against; None: none
    regressor: LipRegressor | None = None  # expects lips from speech, fitted on other people
    choice: Sequence[np.ndarray] = ()  # speech of other voices (640 T'',) each
    phones: Sequence[Phone] = ()
    true_lips: np.ndarray | None = None  # (T',) lip opening of the real clip as annotations have it

    @property
    def real_now(self) -> np.ndarray:
        """``(T,)`` lip opening of the real clip at the row's length."""
        return self.real[: len(self.lips)]


def jitter_above_floor(
    view: View, floor: View | None, settings: JitterSettings, landmarks: LandmarkSettings
) -> float:
    """Jitter of the rigid landmarks, the detector's own taken off; of drawn heads, of the rotation."""
    if view.points is None:
        return jitter(view.curves.rotation, settings)
    still = None if floor is None else floor.points
    own = 0.0 if still is None else rigid_jitter(still, 0.0, settings, landmarks)
    return rigid_jitter(view.points, own if np.isfinite(own) else 0.0, settings, landmarks)


def best_mouth_lmd(takes: Sequence[View], real: View, settings: LandmarkSettings) -> dict[str, float]:
    """The least mean mouth distance of the takes, named with their number: the best of more takes is better.

    NaN if one take has none, as the mean is: a plain min would depend on the order of the takes.
    """
    found = [known_mean(mouth_distance(one.known_points, real.known_points, settings)) for one in takes]
    return {f"mouth_lmd_best_of_{len(takes)}": float(np.min(found))}


def mouth_diversity(takes: Sequence[View], settings: LandmarkSettings) -> float:
    """Mean mouth distance between the takes of every two seeds."""
    pairs = combinations([one.known_points for one in takes], 2)
    return float(np.mean([known_mean(mouth_distance(*pair, settings)) for pair in pairs]))


def true_lips(lips: np.ndarray, true: np.ndarray, settings: LagSettings) -> dict[str, float]:
    """Correlation with the true lip opening, at the best lag and at none."""
    found = lagged_correlation(lips, true[: len(lips)], settings)
    return {"lip_corr": found.best, "lip_corr_zero": found.at_zero, "lip_lag": found.lag}
