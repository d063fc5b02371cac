"""Looking at a video once: where its cuts are, and where faces are."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from datamodules.batches import FPS
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import crop_square, framing
from datamodules.faces.landmarks import head_rotation, mediapipe_image, open_landmarker
from datamodules.preparation.face_tracks import SeenFace
from datamodules.preparation.quality import SHARPNESS_SIZE, sharpness
from datamodules.preparation.shots import CutFinder

MOST_FACES = 4
SHARPNESS_INTERVAL = 10
"""Frames from one picture whose sharpness is measured to the next."""


@dataclass(frozen=True)
class Seen:
    """What a run of frames shows: the faces of each, and which frames but the first of all begin a shot."""

    faces: list[list[SeenFace]]
    cuts: list[int]

    def without(self, frames: np.ndarray) -> "Seen":
        """The same with no faces in some frames, whose pictures are missing."""
        lost = set(frames.tolist())
        return Seen([[] if n in lost else faces for n, faces in enumerate(self.faces)], self.cuts)

    def shots(self) -> list[tuple[int, int]]:
        """First frame, and the one after the last, of each shot."""
        return list(pairwise([0, *self.cuts, len(self.faces)]))


def look(frames: Iterable[np.ndarray]) -> Seen:
    """Look at frames ``(H, W, 3)`` uint8 at 25 fps, all of one size, in order; raises as `open_landmarker`."""
    finder = CutFinder()
    faces: list[list[SeenFace]] = []
    with open_landmarker("video", MOST_FACES) as landmarker:
        for number, frame in enumerate(frames):
            finder.add(frame)
            found = landmarker.detect_for_video(mediapipe_image(frame), round(number * 1000 / FPS))
            measured = number % SHARPNESS_INTERVAL == 0
            faces.append([_face(found, i, frame, measured) for i in range(len(found.face_landmarks))])
    return Seen(faces, finder.cuts())


def _face(found: Any, place: int, frame: np.ndarray, measured: bool) -> SeenFace:
    height, width = frame.shape[:2]
    points = np.array([(p.x * width, p.y * height) for p in found.face_landmarks[place]], np.float32)
    box = FaceBox.around(points)
    shapes = found.face_blendshapes[place]
    lids = [shape.score for shape in shapes if shape.category_name.startswith("eyeBlink")]
    return SeenFace(
        box=box,
        landmarks=points,
        rotation=head_rotation(np.asarray(found.facial_transformation_matrixes[place])),
        blink=float(np.mean(lids)),
        sharpness=sharpness(crop_square(frame, framing(box), SHARPNESS_SIZE)) if measured else None,
    )
