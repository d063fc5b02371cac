"""Finding the faces in a picture: MediaPipe's landmarker, or scikit-image's cascade where its model is absent."""

import contextlib
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
from datamodules.faces.landmarks import (
    MissingLibraryError,
    is_upside_down,
    mediapipe_image,
    open_detector,
    open_landmarker,
)

SMALL_FACE = 80
"""A landmark box whose larger side has fewer pixels is warned about."""

MOST_ROLL = 45.0
"""Degrees by which a face may be turned in the picture: networks know upright ones."""
LARGEST = "largest"

_MOST_FACES = 8
_ROUND_FACE, _SETTLING_SIZE = 2.6, 384  # the square that is turned: in sides of the face's box, in pixels
_SETTLED, _MOST_TURNS = 8.0, 4  # degrees, and how often
_OUTER_EYE_CORNERS = (33, 263)  # image left and right of an upright face

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


class Face(NamedTuple):
    """A face in a picture, and by how many degrees clockwise it seems to be turned there."""

    box: FaceBox
    roll: float


def find_turned_faces(image: np.ndarray) -> list[Face]:
    """All faces of a picture ``(H, W, 3)`` uint8 RGB, by MediaPipe or, where it is not installed, by a cascade.

    The fallback, which finds upright ones alone, is announced once by a warning. UserError where the model file is not the
    published one.
    """
    try:
        with open_landmarker("image", _MOST_FACES) as landmarker:
            found = landmarker.detect(mediapipe_image(image)).face_landmarks
    except (MissingAssetError, MissingLibraryError) as reason:
        _announce_cascade(str(reason))
        return [Face(box, 0.0) for box in _cascade_faces(image)]
    height, width = image.shape[:2]
    points = [np.array([(point.x * width, point.y * height) for point in one]) for one in found]
    return [Face(FaceBox.around(one), _eye_angle(one)) for one in points]


def _eye_angle(landmarks: np.ndarray) -> float:
    right, down = landmarks[_OUTER_EYE_CORNERS[1]] - landmarks[_OUTER_EYE_CORNERS[0]]
    return math.degrees(math.atan2(down, right))


def settled_roll(image: np.ndarray, face: Face) -> float | None:
    """By how many degrees clockwise a face of a picture is turned; None where it is no face once it is turned back.

    The landmarker, made for upright faces, reads a sideways one wrong by up to 70 degrees: the picture is turned back by what
    it reads until it reads nothing. An upside-down one, which it reads as upright, is told by its detector.
    """
    from datamodules.faces.framing import SquareCrop, crop_square  # which frames the boxes of this module

    box, roll, read = face.box, face.roll, face.roll
    side = _ROUND_FACE * box.side
    centre = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    crop = crop_square(image, SquareCrop(centre[0] - side / 2, centre[1] - side / 2, side), _SETTLING_SIZE)
    for _ in range(_MOST_TURNS):
        if abs(read) < _SETTLED:
            break
        turned = np.array(Image.fromarray(crop).rotate(roll, Image.Resampling.BILINEAR))
        found = find_turned_faces(turned)
        if not found:
            return None
        read = max(found, key=lambda one: one.box.side).roll
        roll = (roll + read + 180) % 360 - 180
    with contextlib.suppress(MissingAssetError, MissingLibraryError), open_detector() as detector:
        upright = np.array(Image.fromarray(crop).rotate(roll, Image.Resampling.BILINEAR))
        if is_upside_down(upright, detector):
            roll = roll % 360 - 180
    return roll


def find_faces(image: np.ndarray) -> list[FaceBox]:
    """The boxes of all faces of a picture, see `find_turned_faces`."""
    return [face.box for face in find_turned_faces(image)]


def select_face(boxes: Iterable[FaceBox], which: str = LARGEST) -> FaceBox:
    """One of several boxes: the largest by its larger side (the leftmost of those within 5 % of it), or another.

    ``which`` is largest, left, right or a number from the left, beginning at 1. ValueError where there is none.
    """
    boxes = sorted(boxes, key=lambda box: box.x0 + box.x1)
    if which != LARGEST:
        number = {"left": 1, "right": len(boxes)}.get(which) or int(which)
        if not 1 <= number <= len(boxes):
            raise ValueError(f"no face {which} among {len(boxes)}")
        return boxes[number - 1]
    largest = max(box.side for box in boxes)
    return min((box for box in boxes if box.side >= 0.95 * largest), key=lambda box: box.x0)


def require_face(image: np.ndarray, path: str | Path, which: str = LARGEST, what: str = "picture") -> FaceBox:
    """The face that a portrait ``(H, W, 3)`` uint8 RGB is used for: of several that which `select_face` gives, with a note.

    A small one is warned about. Messages call the file ``what``.

    Raises:
        UserError: There is none, not so many, or it is turned by more than 45 degrees.
    """
    faces = find_turned_faces(image)
    if not faces:
        raise UserError(f"{path}: no face found; give a {what} with a face that looks towards the camera")
    try:
        face = select_face([one.box for one in faces], which)
    except ValueError as error:
        raise UserError(f"{path}: {error}; they are counted from the left") from None
    if len(faces) > 1:
        place = 1 + sum(one.box.x0 + one.box.x1 < face.x0 + face.x1 for one in faces)
        _log.info("%s: %d faces; number %d from the left is taken", path, len(faces), place)
    roll = settled_roll(image, next(one for one in faces if one.box == face))
    if roll is None or abs(roll) > MOST_ROLL:
        turned = "lies sideways" if roll is None else f"is turned by {abs(roll):.0f} degrees"
        raise UserError(f"{path}: the face {turned}; turn the {what} so that it is upright")
    if face.side < SMALL_FACE:
        told = "%s: the face is only %.0f pixels large (%d or more are better); the result will be blurred"
        _log.warning(told, path, face.side, SMALL_FACE)
    return face


@cache
def _announce_cascade(reason: str) -> None:
    told = (
        "faces are found by scikit-image's cascade, which is less exact and takes some animals for faces, and lids and "
        "smiling lips of photographs don't shut: %s"
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
