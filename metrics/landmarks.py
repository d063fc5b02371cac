"""Measures over MediaPipe landmarks of generated and real frames: LMD, mouth LMD, AKD, and trembling.

Landmarks are found in every frame by itself: tracking over time would smooth what is to be judged. All functions take
points in pixels, ``(T, 478, 3)``: x right, y down, z in the scale of x; NaN on frames without a face.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datamodules.faces.landmarks import FaceMeasurements, measure_landmarks
from metrics.alignment import fit_similarity
from metrics.arguments import as_uint8
from metrics.motion import JITTER, JitterSettings, jitter

LANDMARKS = 478
_OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)


@dataclass(frozen=True)
class LandmarkSettings:
    """Which of MediaPipe's 478 landmarks stand for what.

    Attributes:
        eye_corners: The outer ones, whose distance is the unit of length.
        rigid: Eye corners, the outer ones first and fourth, and nose bridge: expression moves them least.
        mesh: So many first ones are the face itself; the other ten are the irises.
        mouth: Outer and inner lips.
        lips: Middle of the inner edge of the upper and of the lower lip.
    """

    eye_corners: tuple[int, int] = (33, 263)
    rigid: tuple[int, ...] = (33, 133, 362, 263, 168, 6, 197, 195)
    mesh: int = 468
    mouth: tuple[int, ...] = _OUTER_LIPS + _INNER_LIPS
    lips: tuple[int, int] = (13, 14)


@dataclass(frozen=True)
class KeypointSettings:
    """What keypoint distances are stated at.

    Attributes:
        size: Shorter side of the frame in pixels.
    """

    size: int = 256


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
    eyes = points[:, left, :2] - points[:, right, :2]
    lengths = np.linalg.norm(eyes, axis=1)
    known = lengths[np.isfinite(lengths)]
    return float(known.mean()) if len(known) else float("nan")


def _same_clip(generated: np.ndarray, real: np.ndarray) -> None:
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

    Args:
        generated: ``(T, 478, 3)`` pixels.
        real: Likewise, of the real frames at the same size.
        settings: Which landmarks stand for what.

    Returns:
        ``(T,)``; NaN where one of the two frames has no face.

    Raises:
        ValueError: The shapes differ.
    """
    _same_clip(generated, real)
    centred = [
        points[:, : settings.mesh, :2] - points[:, : settings.mesh, :2].mean(axis=1, keepdims=True)
        for points in (generated, real)
    ]
    return np.linalg.norm(centred[0] - centred[1], axis=2).mean(axis=1) / eye_distance(real, settings)


def mouth_distance(generated: np.ndarray, real: np.ndarray, settings: LandmarkSettings = FACE) -> np.ndarray:
    """Mean distance of the 40 lip landmarks after the head's pose is taken out, over the real eye distance.

    The generated face is brought onto the real one by the similarity in space that fits the rigid landmarks (eye
    corners, nose bridge); what then differs at the mouth, as seen in the picture, is not the head's doing.

    Args:
        generated: ``(T, 478, 3)`` pixels.
        real: Likewise, of the real frames.
        settings: Which landmarks stand for what.

    Returns:
        ``(T,)``; NaN where one of the two frames has no face.

    Raises:
        ValueError: The shapes differ.
    """
    _same_clip(generated, real)
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

    Args:
        generated: ``(T, 478, 3)`` pixels.
        real: Likewise, of the real frames.
        height: Of the frames in pixels.
        width: Of the frames in pixels.
        settings: What distances are stated at.
        landmarks: Which landmarks stand for what.

    Returns:
        ``(T,)`` in pixels of a frame whose shorter side is 256; NaN where one of the two frames has no face.

    Raises:
        ValueError: The shapes differ.
    """
    _same_clip(generated, real)
    if min(height, width) < 1:
        raise ValueError(f"frames of {height}x{width} pixels")
    distances = np.linalg.norm((generated - real)[:, : landmarks.mesh, :2], axis=2).mean(axis=1)
    return distances * settings.size / min(height, width)


def face_boxes(points: np.ndarray, settings: LandmarkSettings = FACE) -> np.ndarray:
    """Boxes ``(T, 4)`` x0, y0, x1, y1 in pixels about the mesh of landmarks ``(T, 478, 3)``; NaN without a face."""
    plane = points[:, : settings.mesh, :2]
    return np.concatenate([plane.min(axis=1), plane.max(axis=1)], axis=1)


def rigid_curves(points: np.ndarray, settings: LandmarkSettings = FACE) -> np.ndarray:
    """Places in the picture of the rigid landmarks, ``(T, 16)`` in eye distances; NaN without a face.

    Args:
        points: ``(T, 478, 3)`` pixels.
        settings: Which landmarks stand for what.
    """
    return points[:, settings.rigid, :2].reshape(len(points), -1) / eye_distance(points, settings)


def rigid_jitter(
    points: np.ndarray,
    floor: float = 0.0,
    settings: JitterSettings = JITTER,
    landmarks: LandmarkSettings = FACE,
) -> float:
    """Trembling of a clip: RMS above 6 Hz of the rigid landmarks at 25 fps, over the eye distance.

    Args:
        points: ``(T, 478, 3)`` pixels; frames without a face are bridged, see `jitter`.
        floor: What the detector itself trembles by on a still clip, in the same unit; its energy is taken off.
        settings: What counts as trembling.
        landmarks: Which landmarks stand for what.

    Returns:
        Eye distances; NaN with fewer than 8 frames with a face.
    """
    measured = jitter(rigid_curves(points, landmarks), settings)
    return float(np.sqrt(max(measured**2 - floor**2, 0.0))) if np.isfinite(measured) else float("nan")
