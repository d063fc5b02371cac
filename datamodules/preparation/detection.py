"""One look at a video: the faces of each frame, and the cuts between shots."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.ndimage import laplace

from datamodules.batches import FPS
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import crop_square, framing
from datamodules.faces.landmarks import (
    eye_blink,
    head_rotation,
    is_upside_down,
    mediapipe_image,
    open_detector,
    open_landmarker,
)

MOST_FACES = 4
SHARPNESS_SIZE = 256
SHARPNESS_INTERVAL = 10
"""Frames from one picture whose sharpness, and which side is up, is measured to the next."""

# Cuts. PySceneDetect was considered: its package brings a second build of OpenCV into an environment that has MediaPipe's.
GRID = 4
"""The picture is compared in 4 x 4 fields, so that a cut between pictures of like colours is seen, too."""
BINS = 8
"""Per colour."""
CUT = 0.30
"""Least difference of two shots' first and last frames: share of pixels that change their colours' bins."""
ABOVE_MOTION = 3.0
"""A cut differs by so many times what is usual round it."""
ROUND = 12
"""Frames to either side that tell what is usual."""
SIDE = 96
"""Pixels that a picture's longer side is reduced to, about."""


@dataclass(frozen=True)
class FaceDetection:
    """A face in a frame: landmarks ``(478, 2)`` float32 and their box in pixels, blink from 0 open to 1 closed.

    ``rotation`` is ``(3,)`` float32 yaw, pitch, roll in degrees; ``sharpness``, and whether the face stands on its head, are
    known in the frames that they are measured in.
    """

    box: FaceBox
    landmarks: np.ndarray
    rotation: np.ndarray
    blink: float
    sharpness: float | None = None
    upside_down: bool | None = None


@dataclass(frozen=True)
class Detections:
    """What a run of frames shows: the faces of each, and which frames but the first of all begin a shot."""

    faces: list[list[FaceDetection]]
    cuts: list[int]

    def without(self, frames: np.ndarray) -> "Detections":
        """The same with no faces in some frames, whose pictures are missing."""
        lost = set(frames.tolist())
        return Detections([[] if n in lost else faces for n, faces in enumerate(self.faces)], self.cuts)

    def shots(self) -> list[tuple[int, int]]:
        """First frame, and the one after the last, of each shot."""
        return list(pairwise([0, *self.cuts, len(self.faces)]))


def detect(frames: Iterable[np.ndarray]) -> Detections:
    """Look at frames ``(H, W, 3)`` uint8 at 25 fps, all of one size, in order; raises as `open_landmarker`."""
    finder = CutFinder()
    faces: list[list[FaceDetection]] = []
    with open_landmarker("video", MOST_FACES) as landmarker, open_detector() as detector:
        for number, frame in enumerate(frames):
            finder.add(frame)
            found = landmarker.detect_for_video(mediapipe_image(frame), round(number * 1000 / FPS))
            measuring = detector if number % SHARPNESS_INTERVAL == 0 else None
            faces.append([_face(found, i, frame, measuring) for i in range(len(found.face_landmarks))])
    return Detections(faces, finder.cuts())


def _face(found: Any, place: int, frame: np.ndarray, detector: Any | None) -> FaceDetection:
    height, width = frame.shape[:2]
    points = np.array([(p.x * width, p.y * height) for p in found.face_landmarks[place]], np.float32)
    box = FaceBox.around(points)
    crop = None if detector is None else crop_square(frame, framing(box), SHARPNESS_SIZE)
    return FaceDetection(
        box=box,
        landmarks=points,
        rotation=head_rotation(np.asarray(found.facial_transformation_matrixes[place])),
        blink=eye_blink(found.face_blendshapes[place]),
        sharpness=None if crop is None else sharpness(crop),
        upside_down=None if crop is None else is_upside_down(crop, detector),
    )


def sharpness(picture: np.ndarray) -> float:
    """Standard deviation of the Laplacian of a picture's brightness (Pech-Pacheco et al., ICPR 2000).

    It depends on the size, so that it is always taken at ``(SHARPNESS_SIZE, SHARPNESS_SIZE, 3)`` uint8.
    """
    return float(laplace(picture.astype(np.float32).mean(axis=2)).std())


class CutFinder:
    """Tells where the cuts are, from how the colours of neighbouring frames differ."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._changes: list[float] = []

    def add(self, frame: np.ndarray) -> None:
        """The next frame, ``(H, W, 3)`` uint8, all of one size."""
        histogram = field_histograms(frame)
        if self._last is not None:
            self._changes.append(float(0.5 * np.abs(histogram - self._last).sum(axis=-1).mean()))
        self._last = histogram

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a shot, the first frame of all left out."""
        cuts, changes = [], self._changes
        for place, change in enumerate(changes):
            near = changes[max(0, place - ROUND) : place] + changes[place + 1 : place + 1 + ROUND]
            if change >= CUT and change >= ABOVE_MOTION * float(np.median(near or [0.0])):
                cuts.append(place + 1)
        return cuts


def field_histograms(frame: np.ndarray) -> np.ndarray:
    """Shares of each colour's bins in each field ``(16, 3, 8)``; each histogram adds up to 1."""
    step = max(1, max(frame.shape[:2]) // SIDE)
    small = frame[step // 2 :: step, step // 2 :: step]
    result = []
    for row in np.array_split(small >> 5, GRID, axis=0):
        for field in np.array_split(row, GRID, axis=1):
            counts = [np.bincount(colour, minlength=BINS) for colour in field.reshape(-1, 3).T]
            result.append(np.array(counts) / max(1, field.size // 3))
    return np.array(result)
