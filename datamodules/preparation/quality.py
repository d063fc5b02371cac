"""Measures of a recorded clip that tell whether it is fit to learn from."""

import numpy as np
from scipy.ndimage import laplace

from datamodules.faces import SquareCrop
from datamodules.preparation.face_tracks import FaceTrack

SILENCE_DB = -120.0


def sharpness(frames: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the pictures' brightness (Pech-Pacheco et al., ICPR 2000), median over them.

    Args:
        frames: ``(N, 256, 256, 3)`` uint8; the measure depends on the size, so that it is always taken at this one.
    """
    grey = frames.astype(np.float32).mean(axis=3)
    return float(np.median([laplace(picture).std() for picture in grey]))


def loudness(waveform: np.ndarray) -> float:
    """Root mean square of ``(S,)`` in dB of full scale."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return max(SILENCE_DB, 10 * np.log10(power + 1e-12))


def outside_share(crop: SquareCrop, height: int, width: int) -> float:
    """Share of a crop's area that lies outside a picture."""
    inside_x = max(0.0, min(crop.x + crop.side, width) - max(crop.x, 0.0))
    inside_y = max(0.0, min(crop.y + crop.side, height) - max(crop.y, 0.0))
    return 1.0 - inside_x * inside_y / crop.side**2


def pose_range(track: FaceTrack) -> dict[str, list[float]]:
    """2nd and 98th percentile in degrees of each axis of the head's rotation."""
    rotation = np.stack([face.rotation for face in track.faces])
    low, high = np.percentile(rotation, [2, 98], axis=0)
    return {
        axis: [round(float(low[i]), 2), round(float(high[i]), 2)]
        for i, axis in enumerate(("yaw", "pitch", "roll"))
    }
