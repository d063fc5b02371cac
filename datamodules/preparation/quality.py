"""Measures of a recorded clip that tell whether it is fit to learn from."""

import numpy as np
from scipy.ndimage import laplace

from datamodules.preparation.face_tracks import FaceTrack

SILENCE_DB = -120.0
SHARPNESS_SIZE = 256


def sharpness(picture: np.ndarray) -> float:
    """Standard deviation of the Laplacian of a picture's brightness (Pech-Pacheco et al., ICPR 2000).

    It depends on the size, so that it is always taken at ``(SHARPNESS_SIZE, SHARPNESS_SIZE, 3)`` uint8.
    """
    return float(laplace(picture.astype(np.float32).mean(axis=2)).std())


def loudness(waveform: np.ndarray) -> float:
    """Root mean square of ``(S,)`` in dB of full scale."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return max(SILENCE_DB, 10 * np.log10(power + 1e-12))


def cut_share(track: FaceTrack, height: int, width: int) -> float:
    """Share of a face's landmark box that lies outside a picture, in the worst frames (98th percentile)."""
    boxes = np.array([face.box[:4] for face in track.faces])
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shown = boxes.clip(0, [width, height, width, height])
    inside = np.prod(shown[:, 2:] - shown[:, :2], axis=1)
    return float(np.percentile(1 - inside / np.maximum(whole, 1e-6), 98))


def pose_range(track: FaceTrack) -> dict[str, list[float]]:
    """2nd and 98th percentile in degrees of each axis of the head's rotation."""
    rotation = np.stack([face.rotation for face in track.faces])
    low, high = np.percentile(rotation, [2, 98], axis=0)
    ranges = zip(("yaw", "pitch", "roll"), low.tolist(), high.tolist(), strict=True)
    return {axis: [round(a, 2), round(b, 2)] for axis, a, b in ranges}
