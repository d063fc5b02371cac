"""The one crop rule: which square of a picture a model sees, cutting it out and putting it back."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.faces.finding import FaceBox

FACE_SHARE = 0.62
"""Larger side of the landmark box over the side of the crop (the framing of HDTF)."""
FACE_CENTRE = (0.5, 0.57)
"""Where the centre of the landmark box lies in the crop: share from the left, from the top."""

_BLUR_SIDE = 128  # pixels, at least, of the copy that a large square is blurred in
_FEATHER = 0.08  # share of the square's side over which a pasted face fades in


class SquareCrop(NamedTuple):
    """A square in a picture, in pixels: left and upper edge and length of a side; it may reach beyond the picture."""

    x: float
    y: float
    side: float


def framing(box: FaceBox) -> SquareCrop:
    """The square in which every model of this project sees a face.

    The larger side of the landmark box fills 0.62 of the square; its centre lies at (0.5, 0.57).
    """
    side = box.side / FACE_SHARE
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return SquareCrop(x - FACE_CENTRE[0] * side, y - FACE_CENTRE[1] * side, side)


def crop_square(image: np.ndarray, crop: SquareCrop, size: int) -> np.ndarray:
    """Cut a square out of ``(H, W, 3)`` uint8 RGB and resize it to ``(size, size, 3)``: no aliasing, to fractions of a pixel.

    Where the square leaves the picture, the picture's edge is continued and blurred.
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

    ``frame`` is ``(S, S, 3)`` and ``image`` ``(H, W, 3)`` uint8 RGB; so is the result, which equals ``image`` outside the
    square. Parts of it beyond the picture are dropped.
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
