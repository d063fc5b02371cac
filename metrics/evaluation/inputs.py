"""What the functions of the registry are given of one row of a clip; and those functions that are of no one family."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from datamodules.clips.phones import Phone
from metrics.av_correlation import LipRegressor
from metrics.base import known_mean
from metrics.evaluation.detections import Detections
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import Protocol
from metrics.landmarks import LandmarkSettings, mouth_distance, rigid_jitter
from metrics.motion import JitterSettings, LagSettings, jitter, lagged_correlation, shared_motion


@dataclass(frozen=True)
class FrameInputs:
    """Frames of a row, and what they are held against."""

    protocol: Protocol
    judges: Judges
    row: Detections
    real: Detections  # the real clip, as many frames
    source: np.ndarray | None = None  # (D,) embedding of the source frame, or None
    # the still source frame through the codec, which shows the detector's own trembling; None: not taken off
    floor: Detections | None = None
    takes: tuple[Detections, ...] = ()  # all takes of the row

    def part(self, which: slice) -> "FrameInputs":
        """Some of the frames."""
        return replace(self, row=self.row.part(which), real=self.real.part(which))


@dataclass(frozen=True)
class SpeechInputs:
    """Lips of a row, and the speech that they are held against."""

    protocol: Protocol
    lips: np.ndarray  # (T,) lip opening of the row
    real: np.ndarray  # (T',) of the real clip, T <= T'
    waveform: np.ndarray | None = None  # (640 T',) speech; None: none
    regressor: LipRegressor | None = None  # expects lips from speech, fitted on other people
    by_listener: LipRegressor | None = None  # the same by what a network hears
    choice: Sequence[np.ndarray] = ()  # speech of other voices (640 T'',) each
    phones: Sequence[Phone] = ()
    true_lips: np.ndarray | None = None  # (T',) lip opening of the real clip as annotations have it

    @property
    def real_now(self) -> np.ndarray:
        """``(T,)`` lip opening of the real clip at the row's length."""
        return self.real[: len(self.lips)]


def jitter_above_floor(
    row: Detections, floor: Detections | None, settings: JitterSettings, landmarks: LandmarkSettings
) -> float:
    """Jitter of the rigid landmarks, the detector's own taken off; of drawn heads, of the rotation."""
    if row.landmarks is None:
        return jitter(row.motion.rotation, settings)
    still = None if floor is None else floor.landmarks
    own = 0.0 if still is None else rigid_jitter(still, 0.0, settings, landmarks)
    return rigid_jitter(row.landmarks, own if np.isfinite(own) else 0.0, settings, landmarks)


def _mouth_lmd(one: Detections, other: Detections, settings: LandmarkSettings) -> float:
    assert one.landmarks is not None
    assert other.landmarks is not None
    return known_mean(mouth_distance(one.landmarks, other.landmarks, settings))


def best_mouth_lmd(
    takes: Sequence[Detections], real: Detections, settings: LandmarkSettings
) -> dict[str, float]:
    """The least mean mouth distance of the takes, named with their number: the best of more takes is better.

    NaN if one take has none, as the mean is: a plain min would depend on the order of the takes.
    """
    found = [_mouth_lmd(one, real, settings) for one in takes]
    return {f"mouth_lmd_best_of_{len(takes)}": float(np.min(found))}


def mouth_diversity(takes: Sequence[Detections], settings: LandmarkSettings) -> float:
    """Mean mouth distance between the takes of every two seeds."""
    return float(np.mean([_mouth_lmd(*pair, settings) for pair in combinations(takes, 2)]))


def head_by_speech(takes: Sequence[Detections]) -> float:
    """What the head's motion in the takes of all seeds has in common, see `shared_motion`."""
    length = min(len(one.motion) for one in takes)
    return shared_motion(np.stack([one.motion.rotation[:length] for one in takes]))


def true_lips(lips: np.ndarray, true: np.ndarray, settings: LagSettings) -> dict[str, float]:
    """Correlation with the true lip opening, at the best lag and at none."""
    found = lagged_correlation(lips, true[: len(lips)], settings)
    return {"lip_corr": found.best, "lip_corr_zero": found.at_zero, "lip_lag": found.lag}
