"""One square for a whole clip that holds the moving head."""

import numpy as np

from datamodules.faces import FaceBox, SquareCrop, framing

WIDEST, TALLEST = 0.9, 0.8
"""Most of the square's side that the union of all landmark boxes takes."""
MOST_ZOOM_OUT = 1.5
"""A head that needs a square so many times as large as its framing moves too far for one crop."""
NUDGE = 0.08
"""Share of its side that a square is moved by at most to lie inside the picture."""


def clip_crop(boxes: np.ndarray, height: int, width: int) -> SquareCrop | None:
    """The square of a clip in a picture of ``height`` x ``width``.

    The face is framed as ``faces.framing`` frames a portrait, at its median size and in the middle of its way; the square is
    larger where the head would else leave it.

    Args:
        boxes: ``(T, 4)`` x0, y0, x1, y1 of the landmark boxes in pixels.

    Returns:
        None where the head moves too far.
    """
    x0, y0 = boxes[:, :2].min(axis=0)
    x1, y1 = boxes[:, 2:].max(axis=0)
    usual = float(np.median(np.max(boxes[:, 2:] - boxes[:, :2], axis=1)))
    framed = framing(_centred_box((x0 + x1) / 2, (y0 + y1) / 2, usual))
    factor = max(1.0, (x1 - x0) / (WIDEST * framed.side), (y1 - y0) / (TALLEST * framed.side))
    if factor > MOST_ZOOM_OUT:
        return None
    crop = framing(_centred_box((x0 + x1) / 2, (y0 + y1) / 2, usual * factor))
    return SquareCrop(
        x=_nudged(crop.x, crop.side, width), y=_nudged(crop.y, crop.side, height), side=crop.side
    )


def _centred_box(x: float, y: float, side: float) -> FaceBox:
    return FaceBox(x - side / 2, y - side / 2, x + side / 2, y + side / 2, 1.0, "mediapipe")


def _nudged(start: float, side: float, length: int) -> float:
    """The start of a square along one axis, moved towards the inside of a picture."""
    if side > length:
        return start
    inside = min(max(start, 0.0), length - side)
    return start + float(np.clip(inside - start, -NUDGE * side, NUDGE * side))
