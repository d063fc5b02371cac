"""Faces in pictures: finding them, the one crop rule, cutting out and putting back, and measured landmarks."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image

from datamodules.assets import MissingAssetError
from datamodules.batches import FPS
from datamodules.errors import UserError
from datamodules.landmarker import LANDMARKS, MissingLibraryError, head_rotation, open_landmarker

if TYPE_CHECKING:
    from mediapipe import Image as MediapipeImage

FACE_SHARE = 0.62
"""Larger side of the landmark box over the side of the crop (the framing of HDTF)."""
FACE_CENTRE = (0.5, 0.57)
"""Where the centre of the landmark box lies in the crop: share from the left, from the top."""
SMALL_FACE = 80
"""A landmark box whose larger side has fewer pixels is warned about."""

BLENDSHAPES = 52
_MOST_FACES = 8

# The cascade searches the picture at this area and takes faces from this share of the shorter side.
_CASCADE_AREA = 400 * 400
_CASCADE_SMALLEST = 0.14
# Landmark box in the cascade's square (width, height, centre from the left and the top): medians over faces both find.
_CASCADE_WIDTH, _CASCADE_HEIGHT, _CASCADE_CENTRE_X, _CASCADE_CENTRE_Y = 0.82, 0.98, 0.5, 0.595

_BLUR_SIDE = 128  # pixels, at least, of the copy that a large square is blurred in
_FEATHER = 0.08  # share of the square's side over which a pasted face fades in
_log = logging.getLogger(__name__)


class FaceBox(NamedTuple):
    """Bounding box of the landmarks of a face (brows to chin), in pixels.

    Attributes:
        x0: Left.
        y0: Top.
        x1: Right.
        y1: Bottom.
        score: 1 where the landmarker confirmed the face, 0.5 where only the cascade found it.
        source: ``mediapipe`` or ``cascade``.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    score: float
    source: str

    @property
    def side(self) -> float:
        """The larger of width and height, in pixels."""
        return max(self.x1 - self.x0, self.y1 - self.y0)


class SquareCrop(NamedTuple):
    """A square in a picture, in pixels; it may reach beyond the picture.

    Attributes:
        x: Left edge.
        y: Upper edge.
        side: Length of a side, > 0.
    """

    x: float
    y: float
    side: float


def find_faces(image: np.ndarray) -> list[FaceBox]:
    """All faces of a picture, by MediaPipe or, where its model file or libraries are absent, by a cascade.

    The fallback (scikit-image's LBP cascade for frontal faces) is announced once by a warning; its boxes are converted to
    landmark boxes.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.

    Raises:
        UserError: The model file is there but is not the published one.
    """
    try:
        with open_landmarker("image", _MOST_FACES) as landmarker:
            found = landmarker.detect(_mediapipe_image(image)).face_landmarks
    except (MissingAssetError, MissingLibraryError) as reason:
        _announce_cascade(str(reason))
        return _cascade_faces(image)
    height, width = image.shape[:2]
    boxes = []
    for points in found:
        x, y = np.array([(point.x * width, point.y * height) for point in points]).T
        boxes.append(
            FaceBox(float(x.min()), float(y.min()), float(x.max()), float(y.max()), 1.0, "mediapipe")
        )
    return boxes


def select_face(boxes: Iterable[FaceBox]) -> FaceBox:
    """The largest box by its larger side, the leftmost of those within 5 % of it.

    Raises:
        ValueError: There is no box.
    """
    boxes = list(boxes)
    largest = max(box.side for box in boxes)
    return min((box for box in boxes if box.side >= 0.95 * largest), key=lambda box: box.x0)


def require_face(image: np.ndarray, path: str | Path) -> FaceBox:
    """The face that a portrait is used for; a small one is warned about.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        path: Where the picture comes from, for the messages.

    Raises:
        UserError: There is no face.
    """
    boxes = find_faces(image)
    if not boxes:
        raise UserError(f"{path}: no face found; give a picture with a face that looks towards the camera")
    face = select_face(boxes)
    if face.side < SMALL_FACE:
        _log.warning(
            "%s: the face is only %.0f pixels large (%d or more are better); the result will be blurred",
            path,
            face.side,
            SMALL_FACE,
        )
    return face


def framing(box: FaceBox) -> SquareCrop:
    """The square in which every model of this project sees a face.

    The larger side of the landmark box fills 0.62 of the square; its centre lies at (0.5, 0.57).
    """
    side = box.side / FACE_SHARE
    return SquareCrop(
        x=(box.x0 + box.x1) / 2 - FACE_CENTRE[0] * side,
        y=(box.y0 + box.y1) / 2 - FACE_CENTRE[1] * side,
        side=side,
    )


def crop_square(image: np.ndarray, crop: SquareCrop, size: int) -> np.ndarray:
    """Cut a square out and resize it, without aliasing and to fractions of a pixel.

    Where the square leaves the picture, the picture's edge is continued and blurred.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        crop: The square.
        size: Side of the result in pixels.

    Returns:
        ``(size, size, 3)`` uint8 RGB.
    """
    margin = max(2, math.ceil(3 * crop.side / size))  # what the resampling filter reaches
    left, top = math.floor(crop.x) - margin, math.floor(crop.y) - margin
    length = math.ceil(crop.side) + 2 * margin + 1
    region = _region(image, left, top, length, blurred=outside_share(crop, *image.shape[:2]) > 0)
    x, y = crop.x - left, crop.y - top
    resized = Image.fromarray(region).resize(
        (size, size), Image.Resampling.LANCZOS, box=(x, y, x + crop.side, y + crop.side)
    )
    return np.array(resized)


def outside_share(crop: SquareCrop, height: int, width: int) -> float:
    """Share of a square's area that lies outside a picture of ``height`` x ``width``."""
    inside_x = max(0.0, min(crop.x + crop.side, width) - max(crop.x, 0.0))
    inside_y = max(0.0, min(crop.y + crop.side, height) - max(crop.y, 0.0))
    return max(0.0, 1.0 - inside_x * inside_y / crop.side**2)


def _region(image: np.ndarray, left: int, top: int, length: int, blurred: bool) -> np.ndarray:
    """The square of whole pixels at (left, top); outside the picture its edge continued, blurred with the distance."""
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and left + length <= width and top + length <= height:
        return image[top : top + length, left : left + length]
    rows, columns = np.arange(top, top + length), np.arange(left, left + length)
    region = image[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    beyond_y = np.maximum(-rows, rows - height + 1).clip(0)
    beyond_x = np.maximum(-columns, columns - width + 1).clip(0)
    distance = np.maximum(beyond_y[:, None], beyond_x)
    if not blurred:  # what the resampling filter reaches, no more
        return region
    outside = distance > 0
    reach = max(1.0, 0.05 * length)
    soft = _blurred(region, reach)[outside]
    weight = (distance[outside] / (2 * reach)).clip(0, 1)[:, None]
    region[outside] = np.rint(region[outside] * (1 - weight) + soft * weight).astype(np.uint8)
    return region


def _blurred(region: np.ndarray, reach: float) -> np.ndarray:
    """A square ``(N, N, 3)`` uint8 after a Gaussian of ``reach`` pixels, float32 or uint8.

    From 256 pixels on the Gaussian runs over a reduced copy: nothing that it leaves is lost, and its cost no longer grows
    with the cube of the side (a photo of 12 megapixels took a minute).
    """
    from scipy.ndimage import gaussian_filter

    length, factor = len(region), len(region) // _BLUR_SIDE
    if factor < 2:
        return gaussian_filter(region.astype(np.float32), (reach, reach, 0), mode="nearest")
    margin = factor * math.ceil(reach / factor)  # else blocks instead of pixels are continued outwards
    padded = np.pad(region, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    small = np.asarray(Image.fromarray(padded).reduce(factor), dtype=np.float32)
    small = np.rint(gaussian_filter(small, (reach / factor, reach / factor, 0), mode="nearest"))
    box = (margin / factor, margin / factor, (margin + length) / factor, (margin + length) / factor)
    return np.asarray(
        Image.fromarray(small.astype(np.uint8)).resize((length, length), Image.Resampling.BILINEAR, box=box)
    )


def paste_back(frame: np.ndarray, image: np.ndarray, crop: SquareCrop) -> np.ndarray:
    """Put a square frame back to where `crop_square` took it from, faded in over 8 % of its side.

    Args:
        frame: ``(S, S, 3)`` uint8 RGB.
        image: ``(H, W, 3)`` uint8 RGB, left as it is.
        crop: The square; parts outside the picture are dropped.

    Returns:
        ``(H, W, 3)`` uint8 RGB; equal to ``image`` outside the square.
    """
    height, width = image.shape[:2]
    left, top = max(0, math.floor(crop.x)), max(0, math.floor(crop.y))
    right, bottom = min(width, math.ceil(crop.x + crop.side)), min(height, math.ceil(crop.y + crop.side))
    result = image.copy()
    if right <= left or bottom <= top:
        return result
    size = min(len(frame), max(1, round(crop.side)))  # shrinking is done by an antialiased resize first
    picture = Image.fromarray(frame).resize((size, size), Image.Resampling.LANCZOS)
    step = size / crop.side  # frame pixels per picture pixel
    placement = (step, 0.0, (left - crop.x) * step, 0.0, step, (top - crop.y) * step)
    placed = picture.transform(
        (right - left, bottom - top), Image.Transform.AFFINE, placement, resample=Image.Resampling.BICUBIC
    )
    weight = (
        _feather(np.arange(top, bottom) + 0.5 - crop.y, crop.side)[:, None, None]
        * _feather(np.arange(left, right) + 0.5 - crop.x, crop.side)[:, None]
    )
    target = result[top:bottom, left:right]
    target[:] = np.rint(target * (1 - weight) + np.asarray(placed) * weight).astype(np.uint8)
    return result


def _feather(position: np.ndarray, side: float) -> np.ndarray:
    """Weight 0 at both ends of 0..side, 1 from 8 % inwards, smooth between."""
    share = (np.minimum(position, side - position) / (_FEATHER * side)).clip(0, 1)
    return share * share * (3 - 2 * share)


@dataclass(frozen=True)
class FaceMeasurements:
    """What the Face Landmarker sees in T frames; values of frames without a face are NaN.

    Attributes:
        found: ``(T,)`` bool.
        landmarks: ``(T, 478, 3)`` float32: x right and y down in [0, 1] of the frame, z in the scale of x, smaller = nearer.
        blendshapes: ``(T, 52)`` float32 in [0, 1].
        blendshape_names: Names of the 52 columns; empty if no face was found at all.
        rotation: ``(T, 3)`` float32 degrees: yaw > 0 towards image right, pitch > 0 up, roll > 0 clockwise in the image.
        translation: ``(T, 3)`` float32, about centimetres: x image right, y up, z towards the camera (so negative).
    """

    found: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: tuple[str, ...]
    rotation: np.ndarray
    translation: np.ndarray


def measure_landmarks(
    frames: Iterable[np.ndarray], mode: Literal["image", "video"] = "image", fps: float = FPS
) -> FaceMeasurements:
    """Measure the most prominent face of every frame with the MediaPipe Face Landmarker.

    Args:
        frames: ``(T, H, W, 3)`` uint8 RGB, or an iterable of ``(H, W, 3)``.
        mode: ``image`` measures each frame by itself; ``video`` tracks and smooths over time (faster, frames in order).
        fps: Frame rate, for the smoothing of ``video``.

    Raises:
        MissingAssetError: The model file is absent.
        MissingLibraryError: A system library that MediaPipe needs is absent.
    """
    results = []
    with open_landmarker(mode, faces=1) as landmarker:
        for index, frame in enumerate(frames):
            picture = _mediapipe_image(frame)
            results.append(
                landmarker.detect(picture)
                if mode == "image"
                else landmarker.detect_for_video(picture, round(index * 1000 / fps))
            )
    count = len(results)
    landmarks = np.full((count, LANDMARKS, 3), np.nan, np.float32)
    blendshapes = np.full((count, BLENDSHAPES), np.nan, np.float32)
    rotation, translation = np.full((2, count, 3), np.nan, np.float32)
    names: tuple[str, ...] = ()
    for index, result in enumerate(results):
        if not result.face_landmarks:
            continue
        landmarks[index] = [(point.x, point.y, point.z) for point in result.face_landmarks[0]]
        blendshapes[index] = [shape.score for shape in result.face_blendshapes[0]]
        names = names or tuple(shape.category_name for shape in result.face_blendshapes[0])
        matrix = np.asarray(result.facial_transformation_matrixes[0])
        rotation[index], translation[index] = head_rotation(matrix), matrix[:3, 3]
    found = np.array([bool(result.face_landmarks) for result in results], dtype=bool)
    return FaceMeasurements(found, landmarks, blendshapes, names, rotation, translation)


def _mediapipe_image(image: np.ndarray) -> "MediapipeImage":
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))


@cache
def _announce_cascade(reason: str) -> None:
    _log.warning(
        "faces are found by scikit-image's cascade, which is less exact and takes some animals for faces: %s",
        reason,
    )


def _cascade_faces(image: np.ndarray) -> list[FaceBox]:
    """Frontal faces by scikit-image's LBP cascade, as landmark boxes."""
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    height, width = image.shape[:2]
    scale = min(1.0, math.sqrt(_CASCADE_AREA / (height * width)))
    small = Image.fromarray(image).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX
    )
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
        half_width, half_height = _CASCADE_WIDTH * side / 2, _CASCADE_HEIGHT * side / 2
        if not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes):  # a part of a larger one
            boxes.append(
                FaceBox(x - half_width, y - half_height, x + half_width, y + half_height, 0.5, "cascade")
            )
    return boxes
