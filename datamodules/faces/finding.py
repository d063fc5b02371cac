"""Finding the faces in a picture: MediaPipe's landmarker, or scikit-image's cascade where its model is absent."""

import logging
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.assets import MissingAssetError
from datamodules.errors import UserError
from datamodules.faces.landmarks import MissingLibraryError, mediapipe_image, open_landmarker

SMALL_FACE = 80
"""A landmark box whose larger side has fewer pixels is warned about."""

_MOST_FACES = 8

# The cascade searches the picture at this area and takes faces from this share of the shorter side.
_CASCADE_AREA = 400 * 400
_CASCADE_SMALLEST = 0.14
# Landmark box in the cascade's square (width, height, centre from the left and the top): medians over faces both find.
_CASCADE_WIDTH, _CASCADE_HEIGHT, _CASCADE_CENTRE_X, _CASCADE_CENTRE_Y = 0.82, 0.98, 0.5, 0.595
_log = logging.getLogger(__name__)


class FaceBox(NamedTuple):
    """Bounding box of the landmarks of a face (brows to chin), in pixels; (x0, y0) is its upper left corner."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def around(cls, landmarks: np.ndarray) -> "FaceBox":
        """The box of MediaPipe's landmarks ``(L, 2)`` in pixels."""
        (x0, y0), (x1, y1) = landmarks.min(axis=0).tolist(), landmarks.max(axis=0).tolist()
        return cls(x0, y0, x1, y1)

    @property
    def side(self) -> float:
        """The larger of width and height, in pixels."""
        return max(self.x1 - self.x0, self.y1 - self.y0)


def find_faces(image: np.ndarray) -> list[FaceBox]:
    """All faces of a picture ``(H, W, 3)`` uint8 RGB, by MediaPipe or, where it is not installed, by a cascade.

    The fallback is announced once by a warning. UserError where the model file is not the published one.
    """
    try:
        with open_landmarker("image", _MOST_FACES) as landmarker:
            found = landmarker.detect(mediapipe_image(image)).face_landmarks
    except (MissingAssetError, MissingLibraryError) as reason:
        _announce_cascade(str(reason))
        return _cascade_faces(image)
    height, width = image.shape[:2]
    return [
        FaceBox.around(np.array([(point.x * width, point.y * height) for point in points]))
        for points in found
    ]


def select_face(boxes: Iterable[FaceBox]) -> FaceBox:
    """The largest box by its larger side, the leftmost of those within 5 % of it; ValueError where there is none."""
    boxes = list(boxes)
    largest = max(box.side for box in boxes)
    return min((box for box in boxes if box.side >= 0.95 * largest), key=lambda box: box.x0)


def require_face(image: np.ndarray, path: str | Path) -> FaceBox:
    """The face that a portrait ``(H, W, 3)`` uint8 RGB is used for; a small one is warned about, none is a UserError."""
    boxes = find_faces(image)
    if not boxes:
        raise UserError(f"{path}: no face found; give a picture with a face that looks towards the camera")
    face = select_face(boxes)
    if face.side < SMALL_FACE:
        told = "%s: the face is only %.0f pixels large (%d or more are better); the result will be blurred"
        _log.warning(told, path, face.side, SMALL_FACE)
    return face


@cache
def _announce_cascade(reason: str) -> None:
    told = (
        "faces are found by scikit-image's cascade, which is less exact and takes some animals for faces: %s"
    )
    _log.warning(told, reason)


def _cascade_faces(image: np.ndarray) -> list[FaceBox]:
    """Frontal faces by scikit-image's LBP cascade, as landmark boxes."""
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    height, width = image.shape[:2]
    scale = min(1.0, math.sqrt(_CASCADE_AREA / (height * width)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    smallest = max(24, int(_CASCADE_SMALLEST * min(small.size)))
    if smallest > min(small.size):
        return []
    squares = Cascade(lbp_frontal_face_cascade_filename()).detect_multi_scale(
        img=np.asarray(small),
        scale_factor=1.1,
        step_ratio=1,
        min_size=(smallest, smallest),
        max_size=(small.height, small.width),
        min_neighbor_number=4,
    )
    boxes: list[FaceBox] = []
    for square in sorted(squares, key=lambda square: -square["width"]):
        side = square["width"] / scale
        x, y = square["c"] / scale + _CASCADE_CENTRE_X * side, square["r"] / scale + _CASCADE_CENTRE_Y * side
        across, down = _CASCADE_WIDTH * side / 2, _CASCADE_HEIGHT * side / 2
        if not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes):  # a part of a larger one
            boxes.append(FaceBox(x - across, y - down, x + across, y + down))
    return boxes
