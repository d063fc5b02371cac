"""Random access to the clips that preparation wrote, for training."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.media.video import VideoReader

_log = logging.getLogger(__name__)


class ClipReader(VideoReader):
    """The same by decord, which jumps faster; right only where all groups of pictures are closed, at a constant 25 fps.

    Where decord refuses a file, it is read as any other. The two give the same bytes: both are FFmpeg, with the same
    conversion to RGB.
    """

    _decoders = ("_player", "_decord")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, strict=True)
        self._decord: Any = None
        self._refused = False  # whether decord does not read the file

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """As of any video."""
        wanted = self._checked(indices)
        if self._decord is None and not self._refused:
            self._decord = _open_decord(self.path, len(self))
            self._refused = self._decord is None
        if wanted and self._decord is not None:
            import decord

            try:
                return self._decord.get_batch(wanted).asnumpy()
            except decord.DECORDError:
                self._decord, self._refused = None, True  # PyAV decides whether the file is damaged
        return super().get(wanted)


def _open_decord(path: Path, frames: int) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        decoder = decord.VideoReader(str(path), num_threads=1)
    except (decord.DECORDError, RuntimeError):
        decoder = None
    if decoder is None or len(decoder) != frames:
        _log.info("%s: read by PyAV, which decord does not index", path)
        return None
    return decoder
