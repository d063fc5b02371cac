"""Cuts between camera shots, from how the colours of neighbouring frames differ.

PySceneDetect was considered: its package brings a second build of OpenCV into an environment that has MediaPipe's.
"""

import numpy as np

GRID = 4
"""The picture is compared in 4 x 4 fields, so that a cut between pictures of like colours is seen, too."""
BINS = 8
"""Per colour."""
CUT = 0.30
"""Least difference of two shots' first and last frames: share of pixels that change their colours' bins."""
ABOVE_MOTION = 3.0
"""A cut differs by so many times what is usual round it."""
ROUND = 12
"""Frames to either side that tell what is usual."""
SIDE = 96
"""Pixels that a picture's longer side is reduced to, about."""


class CutFinder:
    """Takes the frames of a video one by one and tells where the cuts are."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._changes: list[float] = []

    def add(self, frame: np.ndarray) -> None:
        """The next frame, ``(H, W, 3)`` uint8, all of one size."""
        histogram = field_histograms(frame)
        if self._last is not None:
            self._changes.append(float(0.5 * np.abs(histogram - self._last).sum(axis=-1).mean()))
        self._last = histogram

    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a shot, the first frame of all left out."""
        cuts, changes = [], self._changes
        for place, change in enumerate(changes):
            near = changes[max(0, place - ROUND) : place] + changes[place + 1 : place + 1 + ROUND]
            if change >= CUT and change >= ABOVE_MOTION * float(np.median(near or [0.0])):
                cuts.append(place + 1)
        return cuts


def field_histograms(frame: np.ndarray) -> np.ndarray:
    """Shares of each colour's bins in each field ``(16, 3, 8)``; each histogram adds up to 1."""
    step = max(1, max(frame.shape[:2]) // SIDE)
    small = frame[step // 2 :: step, step // 2 :: step]
    result = []
    for row in np.array_split(small >> 5, GRID, axis=0):
        for field in np.array_split(row, GRID, axis=1):
            counts = [np.bincount(colour, minlength=BINS) for colour in field.reshape(-1, 3).T]
            result.append(np.array(counts) / max(1, field.size // 3))
    return np.array(result)
