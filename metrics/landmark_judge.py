"""MediaPipe's face landmarks as the judge of motion: for real faces, where the model file is present."""

import numpy as np

from datamodules import assets
from datamodules.faces import measure_landmarks
from datamodules.landmarker import MODEL
from datamodules.manifest import file_sha256
from metrics.motion import MotionCurves

UPPER_LIP, LOWER_LIP = 13, 14
OUTER_EYE_CORNERS = (33, 263)


class LandmarkJudge:
    """Measures every frame by itself: tracking over time would smooth the motion that is to be judged.

    Raises:
        MissingAssetError: The landmark model is absent.
    """

    name = "face-landmarker"

    def __init__(self) -> None:
        self._sha256 = file_sha256(assets.find(MODEL))

    @property
    def sha256(self) -> str:
        """Hash of the landmark model."""
        return self._sha256

    def measure(self, frames: np.ndarray) -> MotionCurves:
        """Motion curves of the frames ``(T, H, W, 3)`` uint8 RGB of one clip; NaN where no face is found."""
        seen = measure_landmarks(frames, "image")
        height, width = frames.shape[1:3]
        points = seen.landmarks[:, :, :2] * np.array([width, height], dtype=np.float32)
        eyes = points[:, OUTER_EYE_CORNERS[0]] - points[:, OUTER_EYE_CORNERS[1]]
        gap = points[:, UPPER_LIP] - points[:, LOWER_LIP]
        scale = np.linalg.norm(eyes[seen.found], axis=1).mean() if seen.found.any() else np.nan
        lids = [column for column, name in enumerate(seen.blendshape_names) if name.startswith("eyeBlink")]
        blink = seen.blendshapes[:, lids].mean(axis=1) if lids else np.full(len(frames), np.nan)
        return MotionCurves(seen.rotation, np.linalg.norm(gap, axis=1) / scale, blink)
