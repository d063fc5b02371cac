"""What is measured on the frames of one clip: alone, against the real clip, and with the speech."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.faces.landmarks import measure_landmarks
from experiments.video_judges import REAL_FACES, Judges
from metrics.distributions import blink_intervals, head_spectrum, head_speed, motion_features
from metrics.identity import embedding_distance
from metrics.judges.landmark_judge import curves_of
from metrics.landmarks import keypoint_distance, landmark_distance, mouth_distance, rigid_jitter, to_pixels
from metrics.motion import MotionCurves, blink_rate, head_motion, jitter, mouth_motion
from metrics.motion import MotionJudge as Judge
from metrics.protocol import MOST_FACELESS
from metrics.reconstruction import L1, PSNR, SSIM
from metrics.sharpness import flicker, hold_still, sharpness

_CHUNK = 16
Seen = tuple[MotionCurves, np.ndarray | None, np.ndarray | None]


@dataclass(frozen=True)
class View:
    """The frames of one clip and what judges see in them.

    Attributes:
        frames: ``(T, 3, H, W)`` uint8.
        curves: Motion; NaN without a face.
        points: ``(T, 478, 3)`` landmarks in pixels, NaN without a face; None where no face model looks.
        embeddings: ``(T, D)`` unit vectors, NaN without a face; None without an embedder.
        faces: ``(N, S, S)`` faces held still; None where no face model looks.
        faceless: Number of frames without a face. Beyond the protocol's share of them all of the above is NaN: what is
            left of a face that comes and goes would look better than the whole.
        seen: Curves, points and embeddings as they were seen in any case, for views of some of the frames.
    """

    frames: Tensor
    curves: MotionCurves
    points: np.ndarray | None
    embeddings: np.ndarray | None
    faces: Tensor | None
    faceless: int = 0
    seen: Seen | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def unseen(self) -> bool:
        """Whether too few frames show a face for measures of faces."""
        return too_faceless(self.faceless, len(self))

    def take(self, indices: np.ndarray) -> "View":
        """The view of these frames ``(N,)``, which each judge saw by itself."""
        return self._some(self.frames[torch.from_numpy(indices)], indices)

    def first(self, length: int) -> "View":
        """The view of the first frames."""
        return self if length == len(self) else self.take(np.arange(length))

    def still(self, length: int) -> "View":
        """The view of the first frame, standing still; takes no memory of its own."""
        return self._some(self.frames[:1].expand(length, -1, -1, -1), np.zeros(length, dtype=np.int64))

    def _some(self, frames: Tensor, indices: np.ndarray) -> "View":
        whole, *others = self.seen or (self.curves, self.points, self.embeddings)
        curves = MotionCurves(*(curve[indices] for curve in vars(whole).values()))
        points, embeddings = (None if one is None else one[indices] for one in others)
        return assemble(frames, curves, points, embeddings)


Watch = Callable[[np.ndarray], tuple[MotionCurves, np.ndarray | None]]
"""Looks at frames ``(T, H, W, 3)`` uint8: curves, and landmarks in pixels where it has them."""


def watch_landmarks(frames: np.ndarray) -> tuple[MotionCurves, np.ndarray | None]:
    """Curves and landmarks by MediaPipe, each frame by itself."""
    seen = measure_landmarks(frames, "image")
    return curves_of(seen, *frames.shape[1:3]), to_pixels(seen, *frames.shape[1:3])


def watch_by(judge: Judge) -> Watch:
    """Curves by a judge; landmarks too by the one of real faces, as the regressor of a synthetic dataset knows none."""
    return watch_landmarks if judge.name == REAL_FACES else lambda frames: (judge.measure(frames), None)


def assemble(
    frames: Tensor, curves: MotionCurves, points: np.ndarray | None, embeddings: np.ndarray | None
) -> View:
    """A view of frames that were looked at."""
    seen = (curves, points, embeddings)
    faceless = int((~np.isfinite(curves.lip_opening)).sum())
    curves = trusted(curves)
    if too_faceless(faceless, len(frames)):
        points = None if points is None else _unknown(points)
        embeddings = None if embeddings is None else _unknown(embeddings)
    faces = None if points is None else hold_still(frames, points)
    return View(frames, curves, points, embeddings, faces, faceless, seen)


def trusted(curves: MotionCurves) -> MotionCurves:
    """The curves of a clip, NaN throughout where too few of its frames show a face."""
    lips = curves.lip_opening
    if not too_faceless(int((~np.isfinite(lips)).sum()), len(lips)):
        return curves
    return MotionCurves(*map(_unknown, vars(curves).values()))


def too_faceless(faceless: int, frames: int) -> bool:
    """Whether so many of the frames show no face that measures of faces have no value."""
    return faceless > MOST_FACELESS * frames


def _unknown(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, np.nan)


def look(frames: np.ndarray, judges: Judges) -> View:
    """Look at frames ``(T, H, W, 3)`` uint8 with the judges of single frames."""
    curves, points = judges.watch(frames)
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    embeddings = judges.embedder.embed(images, points) if judges.embedder and points is not None else None
    return assemble(images, curves, points, embeddings)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def own_measures(view: View, source: np.ndarray | None, floor: float = 0.0) -> dict[str, float]:
    """Motion, flicker and identity of frames.

    Args:
        view: The frames.
        source: ``(D,)`` embedding of the source frame, or None.
        floor: Trembling that the detector itself has on a still clip.
    """
    curves = view.curves
    values = {
        "head_motion": head_motion(curves.rotation),
        "mouth_motion": mouth_motion(curves.lip_opening),
        "blink_rate": blink_rate(curves.blink),
        "jitter": jitter(curves.rotation) if view.points is None else rigid_jitter(view.points, floor),
    }
    if view.faces is not None and view.points is not None:
        seen = np.isfinite(view.points).all(axis=(1, 2))
        values["flicker"] = flicker(view.faces, np.flatnonzero(seen))
    if view.embeddings is not None and source is not None:
        values["csim"] = _mean(view.embeddings @ source)
    return values


def generation_measures(view: View, real: View) -> dict[str, float]:
    """Measures against the real clip that a free head doesn't change."""
    if view.points is None or real.points is None or view.faces is None or real.faces is None:
        return {}
    return {"mouth_lmd": _mean(mouth_distance(view.points, real.points)), **sharpness(view.faces, real.faces)}


def reconstruction_measures(view: View, real: View, judges: Judges) -> dict[str, float]:
    """Measures frame by frame; the first frame, the source, is left out."""
    metrics: dict[str, Any] = {"psnr": PSNR(), "ssim": SSIM(), "l1": L1()}
    if judges.lpips is not None:
        judges.lpips.reset()
        metrics["lpips"] = judges.lpips
    for start in range(1, len(view), _CHUNK):
        part = slice(start, start + _CHUNK)
        for metric in metrics.values():
            metric.update(view.frames[part], real.frames[part])
    values = {name: float(metric.compute()) for name, metric in metrics.items()}
    if view.points is not None and real.points is not None:
        height, width = view.frames.shape[-2:]
        values["akd"] = _mean(keypoint_distance(view.points[1:], real.points[1:], height, width))
        values["lmd"] = _mean(landmark_distance(view.points[1:], real.points[1:]))
    if view.embeddings is not None and real.embeddings is not None:
        values["aed"] = _mean(embedding_distance(view.embeddings[1:], real.embeddings[1:]))
    return values


def diversity(views: list[View]) -> dict[str, float]:
    """Mean mouth distance between the takes of every two seeds."""
    pairs = [
        _mean(mouth_distance(first.points, second.points))
        for first, second in combinations(views, 2)
        if first.points is not None and second.points is not None
    ]
    return {"mouth_diversity": float(np.mean(pairs))} if pairs else {}


@dataclass(frozen=True)
class MotionSample:
    """What distances between distributions of motion need of one clip.

    Attributes:
        features: ``(N, 22)`` of `motion_features`; empty where no landmarks are known.
        speed: ``(N,)`` head speed in degrees per second.
        spectrum: ``(0 or 1, 5)`` of `head_spectrum`.
        intervals: ``(N,)`` seconds between blinks.
    """

    features: np.ndarray
    speed: np.ndarray
    spectrum: np.ndarray
    intervals: np.ndarray


def motion_sample(view: View) -> MotionSample:
    """What the frames add to the distributions of motion."""
    curves = view.curves
    points = np.full((len(view), 478, 3), np.nan) if view.points is None else view.points
    return MotionSample(
        motion_features(points, curves.rotation),
        head_speed(curves.rotation),
        head_spectrum(curves.rotation),
        blink_intervals(curves.blink),
    )
