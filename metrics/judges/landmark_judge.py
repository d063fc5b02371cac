"""MediaPipe's face landmarks as the judge of motion: for real faces, where the model file is present."""

import numpy as np

from datamodules import assets
from datamodules.clips.manifest import file_sha256
from datamodules.faces.landmarks import MODEL, FaceMeasurements, measure_landmarks
from metrics.landmarks import FACE, LandmarkSettings, eye_distance, pixel_landmarks
from metrics.motion import MotionCurves


def curves_of(
    seen: FaceMeasurements, height: int, width: int, settings: LandmarkSettings = FACE
) -> MotionCurves:
    """Motion curves of landmarks seen in frames ``height`` x ``width``; NaN where no face was found."""
    points, (upper, lower) = pixel_landmarks(seen, height, width), settings.lips
    gap = np.linalg.norm((points[:, upper] - points[:, lower])[:, :2], axis=1)
    return MotionCurves(seen.rotation, gap / eye_distance(points, settings), seen.blink)


class LandmarkJudge:
    """Measures every frame by itself: tracking over time would smooth the motion that is to be judged.

    Raises:
        MissingAssetError: The landmark model is absent.
    """

    name = "face-landmarker"

    def __init__(self, settings: LandmarkSettings = FACE) -> None:
        self.settings = settings
        self.sha256 = file_sha256(assets.find(MODEL))

    def measure(self, frames: np.ndarray) -> MotionCurves:
        """Motion curves of the frames ``(T, H, W, 3)`` uint8 RGB of one clip; NaN where no face is found."""
        return self.look(frames)[0]

    def look(self, frames: np.ndarray) -> tuple[MotionCurves, np.ndarray]:
        """Motion curves, and the landmarks ``(T, 478, 3)`` in pixels that they come from."""
        seen, (height, width) = measure_landmarks(frames), frames.shape[1:3]
        return curves_of(seen, height, width, self.settings), pixel_landmarks(seen, height, width)
