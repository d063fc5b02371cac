"""What measures are asked with: contexts of one row of a clip, and the functions that pass on what each measure takes.

A function gives a value, or several by name; the settings that it reads are those that its entry in
`metrics.evaluation.registry` names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from datamodules.clips.phones import Phone
from metrics import av_correlation, distributions, identity, landmarks, motion, reconstruction
from metrics import lip_closure as closure
from metrics import sharpness as detail
from metrics.evaluation.judges import Judges
from metrics.evaluation.pooled import PooledFrechet, PooledKernel
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.views import View
from metrics.lpips import LPIPS

_CHUNK = 16


@dataclass(frozen=True)
class FrameContext:
    """What measures of a row's frames are given.

    Attributes:
        protocol: Settings.
        judges: At hand.
        view: The row.
        real: The real clip, as many frames.
        source: ``(D,)`` embedding of the source frame, or None.
        floor: The still source frame through the codec, which shows the detector's own trembling; None: not taken off.
    """

    protocol: Protocol
    judges: Judges
    view: View
    real: View
    source: np.ndarray | None = None
    floor: View | None = None

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks of the row and of the real clip."""
        assert self.view.points is not None
        assert self.real.points is not None
        return self.view.points, self.real.points


@dataclass(frozen=True)
class SpeechContext:
    """What measures of lips and speech are given, which need no frames.

    Attributes:
        protocol: Settings.
        lips: ``(T,)`` lip opening of the row.
        real: ``(T',)`` of the real clip, T <= T'.
        waveform: ``(640 T',)`` speech that the lips are held against; None: none.
        regressor: Expects lips from speech, fitted on other people; None: not fitted.
        choice: Speech of other voices ``(640 T'',)`` each.
        phones: Spoken.
        true_lips: ``(T,)`` lip opening of the real clip as annotations have it.
    """

    protocol: Protocol
    lips: np.ndarray
    real: np.ndarray
    waveform: np.ndarray | None = None
    regressor: av_correlation.LipRegressor | None = None
    choice: Sequence[np.ndarray] = ()
    phones: Sequence[Phone] = ()
    true_lips: np.ndarray | None = None


def _known_mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _over_pictures(metric: Any, c: FrameContext) -> float:
    """A metric of pairs of pictures over all frames but the first, which is the source."""
    for start in range(1, len(c.view), _CHUNK):
        part = slice(start, start + _CHUNK)
        metric.update(c.view.frames[part], c.real.frames[part])
    return float(metric.compute())


def psnr(c: FrameContext) -> float:
    """Of a clip's pooled squared error."""
    return _over_pictures(reconstruction.PSNR(sync_on_compute=False), c)


def ssim(c: FrameContext) -> float:
    """Mean over the frames."""
    return _over_pictures(reconstruction.SSIM(sync_on_compute=False), c)


def l1(c: FrameContext) -> float:
    """Over all pixels."""
    return _over_pictures(reconstruction.L1(sync_on_compute=False), c)


def lpips(c: FrameContext) -> float:
    """Mean over the frames."""
    return _over_pictures(LPIPS(c.judges.lpips, sync_on_compute=False), c)


def akd(c: FrameContext) -> float:
    """See `keypoint_distance`."""
    (row, real), size = c.points(), c.view.frames.shape[-2:]
    settings = (c.protocol.keypoints, c.protocol.landmarks)
    return _known_mean(landmarks.keypoint_distance(row[1:], real[1:], size[0], size[1], *settings))


def lmd(c: FrameContext) -> float:
    """See `landmark_distance`."""
    row, real = c.points()
    return _known_mean(landmarks.landmark_distance(row[1:], real[1:], c.protocol.landmarks))


def aed(c: FrameContext) -> float:
    """See `embedding_distance`."""
    assert c.view.embeddings is not None
    assert c.real.embeddings is not None
    return _known_mean(identity.embedding_distance(c.view.embeddings[1:], c.real.embeddings[1:]))


def csim(c: FrameContext) -> float | dict[str, float]:
    """Mean cosine with the source."""
    return {} if c.view.embeddings is None or c.source is None else _known_mean(c.view.embeddings @ c.source)


def head_motion(c: FrameContext) -> float:
    """In degrees."""
    return motion.head_motion(c.view.curves.rotation)


def mouth_motion(c: FrameContext) -> float:
    """In the unit of the lip opening."""
    return motion.mouth_motion(c.view.curves.lip_opening)


def blink_rate(c: FrameContext) -> float:
    """Per minute."""
    return motion.blink_rate(c.view.curves.blink, c.protocol.blinks)


def jitter(c: FrameContext) -> float:
    """Of landmarks, the detector's own taken off; of drawn heads, of the rotation."""
    settings, points = (c.protocol.jitter, c.protocol.landmarks), c.view.points
    if points is None:
        return motion.jitter(c.view.curves.rotation, c.protocol.jitter)
    still = None if c.floor is None else c.floor.points
    floor = 0.0 if still is None else landmarks.rigid_jitter(still, 0.0, *settings)
    return landmarks.rigid_jitter(points, floor if np.isfinite(floor) else 0.0, *settings)


def flicker(c: FrameContext) -> float:
    """On faces held still."""
    seen = np.isfinite(c.points()[0]).all(axis=(1, 2))
    faces = c.view.held_still(c.protocol.still_face, c.protocol.landmarks)
    return detail.flicker(faces, np.flatnonzero(seen))


def face_sharpness(c: FrameContext) -> dict[str, float]:
    """``sharpness_mouth`` and ``sharpness_eyes`` on faces held still."""
    faces = [view.held_still(c.protocol.still_face, c.protocol.landmarks) for view in (c.view, c.real)]
    return detail.sharpness(faces[0], faces[1], c.protocol.sharpness)


def sharpness(c: FrameContext) -> float:
    """Of whole frames."""
    return detail.frame_sharpness(c.view.frames, c.real.frames)


def mouth_lmd(c: FrameContext) -> float:
    """See `mouth_distance`."""
    return _known_mean(landmarks.mouth_distance(*c.points(), c.protocol.landmarks))


def best_mouth_lmd(takes: Sequence[FrameContext]) -> dict[str, float]:
    """The least `mouth_lmd` of the takes."""
    # The best of more takes is better: results of other numbers of seeds must not meet under one name.
    # NaN if one take has none, as the mean is: a plain min would depend on the order of the takes.
    return {f"mouth_lmd_best_of_{len(takes)}": float(np.min([mouth_lmd(c) for c in takes]))}


def mouth_diversity(takes: Sequence[FrameContext]) -> float:
    """Mean mouth distance between the takes of every two seeds."""
    pairs, settings = combinations([c.points()[0] for c in takes], 2), takes[0].protocol.landmarks
    return float(np.mean([_known_mean(landmarks.mouth_distance(a, b, settings)) for a, b in pairs]))


def speech_scores(c: SpeechContext) -> dict[str, float]:
    """See `measure_sync`."""
    assert c.waveform is not None
    assert c.regressor is not None
    settings = (c.protocol.av, c.protocol.retrieval, c.protocol.lip_range)
    return av_correlation.measure_sync(c.lips, c.waveform, c.regressor, c.choice, c.real, *settings)


def lip_closure(c: SpeechContext) -> float:
    """At the phones that are spoken."""
    settings = (c.protocol.closure, c.protocol.lip_range)
    return closure.lip_closure(c.lips, c.real[: len(c.lips)], c.phones, *settings)


def true_lips(c: SpeechContext) -> dict[str, float]:
    """Correlation with the true lip opening, at the best lag and at none."""
    assert c.true_lips is not None
    found = motion.lagged_correlation(c.lips, c.true_lips[: len(c.lips)], c.protocol.lags)
    return {"lip_corr": found.best, "lip_corr_zero": found.at_zero, "lip_lag": found.lag}


def motion_features(c: FrameContext) -> np.ndarray:
    """``(N, D)`` movements of face and head."""
    settings = (c.protocol.motion_features, c.protocol.landmarks)
    return distributions.motion_features(c.points()[0], c.view.curves.rotation, *settings)


def head_speed(c: FrameContext) -> np.ndarray:
    """``(N,)`` in degrees per second."""
    return distributions.head_speed(c.view.curves.rotation, c.protocol.head_speed)


def head_spectrum(c: FrameContext) -> np.ndarray:
    """``(0 or 1, octaves)`` in dB."""
    return distributions.head_spectrum(c.view.curves.rotation, c.protocol.head_spectrum)


def blink_intervals(c: FrameContext) -> np.ndarray:
    """``(N,)`` in seconds."""
    return distributions.blink_intervals(c.view.curves.blink, c.protocol.blinks)


def fid_pool(protocol: Protocol, width: int) -> PooledFrechet:
    """Fréchet distance of features of so many numbers."""
    return PooledFrechet(width, protocol.pool, protocol.intervals)


def kid_pool(protocol: Protocol, width: int) -> PooledKernel:
    """Kernel distance of features."""
    return PooledKernel(protocol.kid, protocol.pool, protocol.intervals)


def motion_frechet(protocol: Protocol) -> distributions.MotionFrechetDistance:
    """Fréchet distance of `motion_features`."""
    return distributions.MotionFrechetDistance(protocol.motion_features)


def head_velocity(protocol: Protocol) -> distributions.WassersteinDistance:
    """Wasserstein distance of `head_speed`."""
    return distributions.WassersteinDistance()


def spectrum_distance(protocol: Protocol) -> distributions.HeadSpectrumDistance:
    """Distance of `head_spectrum`."""
    return distributions.HeadSpectrumDistance(protocol.head_spectrum)


def interval_distance(protocol: Protocol) -> distributions.WassersteinDistance:
    """Wasserstein distance of `blink_intervals`."""
    return distributions.WassersteinDistance(fewest=protocol.blink_intervals.fewest)
