"""Boxes in pictures, in whole pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PixelBox:
    """A box in whole pixels.

    Attributes:
        x: left edge.
        y: upper edge.
        width: > 0.
        height: > 0.
    """

    x: int
    y: int
    width: int
    height: int

    def scaled(self, factor: float) -> "PixelBox":
        """The same part of a picture whose sides are ``factor`` times as long, each edge to the nearest pixel."""
        left, top = round(self.x * factor), round(self.y * factor)
        right, bottom = round((self.x + self.width) * factor), round((self.y + self.height) * factor)
        return PixelBox(left, top, right - left, bottom - top)
