"""How a player shows the pictures of a file: pixels of square shape, turned and mirrored as the file asks for."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import Interpolation

from datamodules.errors import UserError

_SQUARE = 0.01
"""Pixels are taken for square whose sides differ by less: writers round."""
_OBLONG = 4.0
"""Sides of a pixel that differ by more than this factor are a mistake in the file."""
_ASKEW = 0.2
"""Tangent of the angle, to the next quarter turn, beyond which turning by quarters is no longer what was asked for."""


@dataclass(frozen=True)
class Display:
    """What is done to every decoded picture; all come out in the size of the first one.

    The size before turning, ``height`` and ``width``, holds the stored picture with its width times ``stretch``.
    """

    height: int
    width: int
    stretch: float
    turned: bool  # rows become columns, before the two below
    flipped_rows: bool
    flipped_columns: bool

    @classmethod
    def of(cls, picture: av.VideoFrame, track: av.VideoStream, path: Path) -> "Display":
        """As the first picture of a track asks for; UserError where it should stand at an odd angle."""
        stretch = float(track.sample_aspect_ratio or 1)
        if abs(stretch - 1) < _SQUARE or not 1 / _OBLONG <= stretch <= _OBLONG:
            stretch = 1.0
        across, down, left_down, straight = _matrix(
            picture
        )  # x' = across x + left_down y, y' = down x + straight y
        kept, swapped = max(abs(across), abs(straight)), max(abs(down), abs(left_down))
        if min(kept, swapped) > _ASKEW * max(kept, swapped):
            raise UserError(f"{path}: asks to be shown at an odd angle; turn it upright first")
        turned = swapped > kept
        rows, columns = (down, left_down) if turned else (straight, across)
        return cls(picture.height, round(picture.width * stretch), stretch, turned, rows < 0, columns < 0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(H, W, 3)`` of what is shown."""
        return (self.width, self.height, 3) if self.turned else (self.height, self.width, 3)

    def pixels(self, picture: av.VideoFrame) -> np.ndarray:
        """A decoded picture as ``(H, W, 3)`` uint8 RGB; one of another shape gets black bars."""
        height, width = self._inside(picture)
        size: dict[str, Any] = {}
        if (height, width) != (picture.height, picture.width):
            size = {"height": height, "width": width, "interpolation": Interpolation.BICUBIC}
        image = picture.to_ndarray(format="rgb24", threads=2, **size)  # more cost more than they save
        if (height, width) != (self.height, self.width):
            canvas = np.zeros((self.height, self.width, 3), np.uint8)
            top, left = (self.height - height) // 2, (self.width - width) // 2
            canvas[top : top + height, left : left + width] = image
            image = canvas
        if self.turned:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.flipped_rows else 1, :: -1 if self.flipped_columns else 1]

    def _inside(self, picture: av.VideoFrame) -> tuple[int, int]:
        """The size to which a picture is brought: as large as fits, in its own shape."""
        width = picture.width * self.stretch
        scale = min(self.height / picture.height, self.width / width)
        inside = round(picture.height * scale), round(width * scale)
        nearly = all(
            abs(side - most) <= 1 for side, most in zip(inside, (self.height, self.width), strict=True)
        )
        return (self.height, self.width) if nearly else inside


def _matrix(picture: av.VideoFrame) -> tuple[int, ...]:
    """The four numbers of the display matrix that turn and mirror, a b c d of FFmpeg's ``display.h``."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if isinstance(data, SideData):
        across, down, _, left_down, straight, *_ = struct.unpack("=9i", bytes(data))
        if any((across, down, left_down, straight)):
            return across, down, left_down, straight
    return 1, 0, 0, 1
