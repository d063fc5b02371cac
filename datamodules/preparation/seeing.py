"""Looking at a video once: where its cuts are, and where faces are."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from datamodules.batches import FPS
from datamodules.faces import FaceBox
from datamodules.landmarker import head_rotation, open_landmarker
from datamodules.preparation.face_tracks import SeenFace
from datamodules.preparation.shots import CutFinder

MOST_FACES = 4


@dataclass(frozen=True)
class Seen:
    """What a run of frames shows.

    Attributes:
        faces: the faces of each frame.
        cuts: numbers of the frames that begin a shot, the first of all left out.
    """

    faces: list[list[SeenFace]]
    cuts: list[int]

    def shots(self) -> list[tuple[int, int]]:
        """First frame, and the one after the last, of each shot."""
        edges = [0, *self.cuts, len(self.faces)]
        return list(zip(edges[:-1], edges[1:], strict=True))


def look(frames: Iterable[np.ndarray]) -> Seen:
    """Looks at frames ``(H, W, 3)`` uint8 at 25 fps, all of one size, in order.

    Raises:
        MissingAssetError: the model file of the face landmarker is absent.
        MissingLibraryError: a system library that MediaPipe needs is absent.
    """
    import mediapipe

    finder = CutFinder()
    faces: list[list[SeenFace]] = []
    with open_landmarker("video", MOST_FACES) as landmarker:
        for number, frame in enumerate(frames):
            finder.add(frame)
            picture = mediapipe.Image(
                image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
            )
            found = landmarker.detect_for_video(picture, round(number * 1000 / FPS))
            height, width = frame.shape[:2]
            faces.append([_face(found, i, height, width) for i in range(len(found.face_landmarks))])
    return Seen(faces, finder.cuts())


def _face(found: object, place: int, height: int, width: int) -> SeenFace:
    points = np.array([(point.x * width, point.y * height) for point in found.face_landmarks[place]], np.float32)  # type: ignore[attr-defined]
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    lids = [
        shape.score
        for shape in found.face_blendshapes[place]  # type: ignore[attr-defined]
        if shape.category_name.startswith("eyeBlink")
    ]
    matrix = np.asarray(found.facial_transformation_matrixes[place])  # type: ignore[attr-defined]
    return SeenFace(
        box=FaceBox(float(x0), float(y0), float(x1), float(y1), 1.0, "mediapipe"),
        landmarks=points,
        rotation=head_rotation(matrix),
        blink=float(np.mean(lids)),
    )
