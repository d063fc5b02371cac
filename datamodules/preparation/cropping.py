"""One square for a whole clip that holds the moving head."""

import numpy as np

from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import FACE_SHARE, SquareCrop, framing

WIDEST, TALLEST = 0.9, 0.8
"""Most of the square's side that the union of all landmark boxes takes where the picture is large enough."""
TIGHTEST = 0.94
"""The same where it is not: what lies outside a picture can't be shown."""
MOST_ZOOM_OUT = 1.5
"""A head that needs a square so many times as large as its framing moves too far for one crop."""
MOST_ZOOM_IN = 0.8
"""A square is made smaller by so much, at most, to lie inside the picture."""
NUDGE = 0.15
"""Share of its side that a square is moved by at most to lie inside the picture."""
MARGIN = 0.03
"""Share of its side that is left round the head where it is moved."""


def clip_crop(boxes: np.ndarray, height: int, width: int) -> SquareCrop | None:
    """The square of a clip in a picture of ``height`` x ``width``; None where the head moves too far.

    The face is framed as ``faces.framing`` frames a portrait, at its median size and in the middle of its way. The square is
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
    crop = framing(FaceBox(x - half, y - half, x + half, y + half, 1.0, "mediapipe"))
    return SquareCrop(_nudged(crop.x, side, width, x0, x1), _nudged(crop.y, side, height, y0, y1), side)


def _nudged(start: float, side: float, length: int, low: float, high: float) -> float:
    """The start of a square along one axis, moved towards the inside of a picture; ``low`` to ``high`` stay inside it."""
    inside = min(max(start, min(0.0, length - side)), max(0.0, length - side))
    moved = start + float(np.clip(inside - start, -NUDGE * side, NUDGE * side))
    before = 0.0 if low <= 0 else MARGIN * side  # at the edge of the picture there is nothing more to show
    behind = 0.0 if high >= length else MARGIN * side
    return float(np.clip(moved, high + behind - side, low - before))
