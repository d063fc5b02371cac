"""Landmarks of MediaPipe: distances from the real ones, frame by frame (LMD, AKD) and of the mouth; jitter.

Landmarks are found in every frame by itself: tracking over time would smooth what is to be judged. All functions take
points in pixels, ``(T, 478, 3)``: x right, y down, z in the scale of x; NaN on frames without a face.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datamodules.faces.landmarks import LANDMARKS, FaceMeasurements, measure_landmarks
from metrics.alignment import fit_similarity
from metrics.base import known_mean
from metrics.checks import as_uint8
from metrics.motion import JITTER, JitterSettings, jitter

_OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)


@dataclass(frozen=True)
class LandmarkSettings:
    """Which of MediaPipe's 478 landmarks stand for what."""

    eye_corners: tuple[int, int] = (33, 263)  # the outer ones, whose distance is the unit of length
    # eye corners, the outer ones first and fourth, and nose bridge: expression moves them least
    rigid: tuple[int, ...] = (33, 133, 362, 263, 168, 6, 197, 195)
    mesh: int = 468  # so many first ones are the face itself; the other ten are the irises
    mouth: tuple[int, ...] = _OUTER_LIPS + _INNER_LIPS  # outer and inner lips
    lips: tuple[int, int] = (13, 14)  # middle of the inner edge of the upper and of the lower lip


@dataclass(frozen=True)
class KeypointSettings:
    """What keypoint distances are stated at."""

    size: int = 256  # shorter side of the frame in pixels


FACE = LandmarkSettings()
"""The default of all that takes landmarks."""


def pixel_landmarks(seen: FaceMeasurements, height: int, width: int) -> np.ndarray:
    """Landmarks in pixels of a frame ``height`` x ``width``, ``(T, 478, 3)`` float64."""
    return seen.landmarks.astype(np.float64) * np.array([width, height, width])


def find_landmarks(frames: Tensor) -> np.ndarray:
    """Landmarks of every frame by itself, ``(T, 478, 3)`` in pixels.

    Args:
        frames: ``(T, 3, H, W)`` uint8 RGB, or float in [-1, 1].

    Raises:
        MissingAssetError: The landmark model is absent.
        ValueError: The frames have another shape, type or range.
    """
    images = as_uint8(frames).permute(0, 2, 3, 1).cpu().numpy()
    return pixel_landmarks(measure_landmarks(images), *frames.shape[-2:])


def eye_distance(points: np.ndarray, settings: LandmarkSettings = FACE) -> float:
    """Mean distance over the clip of the outer eye corners in the picture, in pixels; NaN without a face."""
    left, right = settings.eye_corners
    return known_mean(np.linalg.norm(points[:, left, :2] - points[:, right, :2], axis=1))


def _check_same_clip(generated: np.ndarray, real: np.ndarray) -> None:
    for points in (generated, real):
        if not isinstance(points, np.ndarray) or points.shape[1:] != (LANDMARKS, 3):
            raise ValueError(
                f"landmarks must be an array (T, {LANDMARKS}, 3) in pixels; got {type(points).__name__} {tuple(points.shape)}"
            )
    if generated.shape != real.shape:
        raise ValueError(f"landmarks of shape {generated.shape} against {real.shape}")


def landmark_distance(
    generated: np.ndarray, real: np.ndarray, settings: LandmarkSettings = FACE
) -> np.ndarray:
    """Mean distance of the 468 mesh landmarks in the picture, each minus its frame's mean, over the real eye distance.

    ``(T,)`` of landmarks ``(T, 478, 3)`` in frames of one size; NaN where one of the two frames has no face.

    Raises:
        ValueError: The shapes differ.
    """
    _check_same_clip(generated, real)
    planes = [points[:, : settings.mesh, :2] for points in (generated, real)]
    centred = [plane - plane.mean(axis=1, keepdims=True) for plane in planes]
    return np.linalg.norm(centred[0] - centred[1], axis=2).mean(axis=1) / eye_distance(real, settings)


def mouth_distance(generated: np.ndarray, real: np.ndarray, settings: LandmarkSettings = FACE) -> np.ndarray:
    """Mean distance of the 40 lip landmarks after the head's pose is taken out, over the real eye distance.

    The generated face is brought onto the real one by the similarity in space that fits the rigid landmarks (eye
    corners, nose bridge); what then differs at the mouth, as seen in the picture, is not the head's doing.

    ``(T,)`` of landmarks ``(T, 478, 3)``; NaN where one of the two frames has no face.

    Raises:
        ValueError: The shapes differ.
    """
    _check_same_clip(generated, real)
    rigid, mouth = settings.rigid, settings.mouth
    moved = fit_similarity(generated[:, rigid], real[:, rigid]).apply(generated[:, mouth])
    apart = np.linalg.norm((moved - real[:, mouth])[..., :2], axis=2).mean(axis=1)
    return apart / eye_distance(real, settings)


def keypoint_distance(
    generated: np.ndarray,
    real: np.ndarray,
    height: int,
    width: int,
    settings: KeypointSettings = KeypointSettings(),
    landmarks: LandmarkSettings = FACE,
) -> np.ndarray:
    """Mean distance of the 468 mesh landmarks in the picture, pose and place included.

    ``(T,)`` of landmarks ``(T, 478, 3)`` in frames of ``height`` x ``width`` pixels; in pixels of a frame whose shorter
    side is 256; NaN where one of the two frames has no face.

    Raises:
        ValueError: The shapes differ.
    """
    _check_same_clip(generated, real)
    if min(height, width) < 1:
        raise ValueError(f"frames of {height}x{width} pixels")
    distances = np.linalg.norm((generated - real)[:, : landmarks.mesh, :2], axis=2).mean(axis=1)
    return distances * settings.size / min(height, width)


def face_boxes(points: np.ndarray, settings: LandmarkSettings = FACE) -> np.ndarray:
    """Boxes ``(T, 4)`` x0, y0, x1, y1 in pixels about the mesh of landmarks ``(T, 478, 3)``; NaN without a face."""
    plane = points[:, : settings.mesh, :2]
    return np.concatenate([plane.min(axis=1), plane.max(axis=1)], axis=1)


def rigid_jitter(
    points: np.ndarray,
    floor: float = 0.0,
    settings: JitterSettings = JITTER,
    landmarks: LandmarkSettings = FACE,
) -> float:
    """Trembling of a clip: RMS above 6 Hz of the rigid landmarks at 25 fps, over the eye distance.

    Of ``points`` ``(T, 478, 3)`` in pixels, in eye distances; gaps without a face are bridged, see `jitter`; NaN with fewer
    than 8 frames with a face. The energy of ``floor``, what the detector itself trembles by on a still clip in the same
    unit, is taken off.
    """
    rigid = points[:, landmarks.rigid, :2].reshape(len(points), -1)  # (T, 16)
    measured = jitter(rigid / eye_distance(points, landmarks), settings)
    return float(np.sqrt(max(measured**2 - floor**2, 0.0))) if np.isfinite(measured) else float("nan")
