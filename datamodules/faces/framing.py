"""The one crop rule: which square of a picture or a clip a model sees, cutting it out and putting it back."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.faces.finding import FaceBox

FACE_SHARE = 0.62
"""Larger side of the landmark box over the side of the crop (the framing of HDTF)."""
FACE_CENTRE = (0.5, 0.57)
"""Where the centre of the landmark box lies in the crop: share from the left, from the top."""

# Of a clip: what one square has to hold while the head moves, as shares of the square's side.
WIDEST, TALLEST = 0.9, 0.8
"""Most that the union of all landmark boxes takes where the picture is large enough."""
TIGHTEST = 0.94
"""The same where it is not: what lies outside a picture can't be shown."""
MOST_ZOOM_OUT = 1.5
"""A head that needs a square so many times as large as its framing moves too far for one crop."""
MOST_ZOOM_IN = 0.8
"""A square is made smaller by so much, at most, to lie inside the picture."""
NUDGE = 0.15
"""What a square is moved by at most to lie inside the picture."""
MARGIN = 0.03
"""What is left round the head where the square is moved."""

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


def clip_framing(boxes: np.ndarray, height: int, width: int) -> SquareCrop | None:
    """The square of a clip in a picture of ``height`` x ``width``; None where the head moves too far.

    The face is framed as `framing` does, at its median size and in the middle of its way. The square is
    larger where the head would else leave it, and smaller where the picture is (videos that were cropped before), as long as
    it still holds the head. ``boxes`` are ``(T, 4)`` x0, y0, x1, y1 of the landmark boxes in pixels.
    """
    shown = boxes.clip(0, [width, height, width, height])
    (x0, y0), (x1, y1) = shown[:, :2].min(axis=0), shown[:, 2:].max(axis=0)
    usual = float(np.median(np.max(boxes[:, 2:] - boxes[:, :2], axis=1))) / FACE_SHARE
    least = max((x1 - x0) / WIDEST, (y1 - y0) / TALLEST)  # holds the head all the time
    if least > MOST_ZOOM_OUT * usual:
        return None
    largest = max(min(height, width), MOST_ZOOM_IN * usual)
    side = max(min(max(usual, least), largest), max(x1 - x0, y1 - y0) / TIGHTEST)
    half = side * FACE_SHARE / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    crop = framing(FaceBox(x - half, y - half, x + half, y + half))
    return SquareCrop(_nudged(crop.x, side, width, x0, x1), _nudged(crop.y, side, height, y0, y1), side)


def _nudged(start: float, side: float, length: int, low: float, high: float) -> float:
    """The start of a square along one axis, moved towards the inside of a picture; ``low`` to ``high`` stay inside it."""
    inside = min(max(start, min(0.0, length - side)), max(0.0, length - side))
    moved = start + float(np.clip(inside - start, -NUDGE * side, NUDGE * side))
    before = 0.0 if low <= 0 else MARGIN * side  # at the edge of the picture there is nothing more to show
    behind = 0.0 if high >= length else MARGIN * side
    return float(np.clip(moved, high + behind - side, low - before))


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


def paste_back(
    frame: np.ndarray, image: np.ndarray, crop: SquareCrop, cover: np.ndarray | None = None
) -> np.ndarray:
    """Put a square frame back to where `crop_square` took it from, faded in over 8 % of its side.

    ``frame`` is ``(S, S, 3)`` and ``image`` ``(H, W, 3)`` uint8 RGB; so is the result, which equals ``image`` outside the
    square. Parts of it beyond the picture are dropped. A ``cover``, ``(S, S)`` float32 in [0, 1], says how much of each pixel
    is put back.
    """
    height, width = image.shape[:2]
    left, top = max(0, math.floor(crop.x)), max(0, math.floor(crop.y))
    right, bottom = min(width, math.ceil(crop.x + crop.side)), min(height, math.ceil(crop.y + crop.side))
    result = image.copy()
    if right <= left or bottom <= top:
        return result
    size = min(len(frame), max(1, round(crop.side)))  # shrinking is done by an antialiased resize first
    step = size / crop.side  # frame pixels per picture pixel
    placement = (step, 0.0, (left - crop.x) * step, 0.0, step, (top - crop.y) * step)

    def placed(pixels: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
        shape, how = (right - left, bottom - top), Image.Transform.AFFINE
        return np.asarray(picture.transform(shape, how, placement, resample=Image.Resampling.BICUBIC))

    weight = (
        _feather(np.arange(top, bottom) + 0.5 - crop.y, crop.side)[:, None, None]
        * _feather(np.arange(left, right) + 0.5 - crop.x, crop.side)[:, None]
    )
    if cover is not None:
        weight = weight * (placed(np.rint(255 * cover).astype(np.uint8)) / 255.0)[..., None]
    target = result[top:bottom, left:right]
    target[:] = np.rint(target * (1 - weight) + placed(frame) * weight).astype(np.uint8)
    return result


def _feather(position: np.ndarray, side: float) -> np.ndarray:
    """Weight 0 at both ends of 0..side, 1 from 8 % inwards, smooth between."""
    share = (np.minimum(position, side - position) / (_FEATHER * side)).clip(0, 1)
    return share * share * (3 - 2 * share)
