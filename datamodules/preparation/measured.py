"""What was seen of a clip's face, as annotations of its frames."""

from typing import Any

import numpy as np

from datamodules.faces.framing import SquareCrop
from datamodules.preparation.face_tracks import FaceTrack

# Numbers of MediaPipe's face mesh; left and right are the person's.
UPPER_LIP, LOWER_LIP = 13, 14
MOUTH_CORNERS = (61, 291)
OUTER_EYE_CORNERS = (33, 263)
REGION_POINTS = {
    "mouth": (61, 291, 0, 17, 37, 267, 84, 314),
    "left_eye": (263, 362, 386, 374, 385, 380),
    "right_eye": (33, 133, 159, 145, 158, 153),
}
MARGIN = 0.45
"""Of a region's width, on each side; half of it above and below."""


def annotations_of(
    track: FaceTrack, start: int, frames: int, crop: SquareCrop
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata for ``write_annotations``; frames in which the face was lost hold values between neighbours'.

    ``start`` is the number of the clip's first frame as the track counts, ``crop`` the square that the clip shows.
    """
    every = np.arange(start, start + frames)

    def over_time(name: str) -> np.ndarray:
        values = [getattr(face, name) for face in track.faces]
        known = np.array(values, dtype=np.float64).reshape(len(track.frames), -1)
        columns = [np.interp(every, track.frames, column) for column in known.T]
        return np.stack(columns, axis=1).astype(np.float32)

    corner = np.array([crop.x, crop.y])
    points = (over_time("landmarks").reshape(frames, -1, 2) - corner) / crop.side

    def distance(first: int, second: int) -> np.ndarray:
        return np.linalg.norm(points[:, first] - points[:, second], axis=1)

    unit = max(float(np.median(distance(*OUTER_EYE_CORNERS))), 1e-6)
    arrays = {
        "rotation": over_time("rotation"),
        "blink": over_time("blink")[:, 0],
        "landmarks": points,
        "lip_opening": distance(UPPER_LIP, LOWER_LIP) / unit,
        "lip_width": distance(*MOUTH_CORNERS) / unit,
        "regions": np.stack([_box(points[:, list(group)]) for group in REGION_POINTS.values()], axis=1),
    }
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    return arrays, {"landmark_names": "mediapipe face mesh, 478 points"}


def _box(points: np.ndarray) -> np.ndarray:
    """``(T, 4)`` boxes in [0, 1] round points ``(T, N, 2)``, with a margin."""
    low, high = points.min(axis=1), points.max(axis=1)
    margin = MARGIN * (high - low)[:, :1] * np.array([[1.0, 0.5]])
    return np.concatenate([low - margin, high + margin], axis=1).clip(0, 1)
