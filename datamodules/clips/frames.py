"""Frames of prepared clips at the size a model wants, by frame index."""

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.clips.clip_store import ClipStore, as_store
from datamodules.clips.lru_cache import LRUCache
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.media.pictures import resize_bilinear
from datamodules.media.video import VideoReader

MAX_OPEN = 16
"""Readers (or memory maps) that one worker process keeps open."""


class ClipFrames:
    """Random access to the frames of a dataset's clips.

    Readers are opened where they are used and not pickled (``VideoReader`` leaves its decoder behind in a
    forked worker), and no more than ``MAX_OPEN`` stay open. With ``cache`` every clip is decoded once into
    ``ROOT/frames/SIZE/`` as plain uint8 and memory-mapped from then on: about 12 KB a frame at 64 pixels,
    49 KB at 128, 200 KB at 256.

    Args:
        clips: Dataset folder, or where else the clips' files are.
        size: Edge of the frames in pixels.
        cache: Whether to keep decoded frames on disk.
    """

    def __init__(self, clips: Path | ClipStore, size: int, cache: bool = False) -> None:
        self.clips = as_store(clips)
        self.root = self.clips.root
        self.size = size
        self.cache = cache
        self._open: LRUCache[Any] = LRUCache(MAX_OPEN)

    def get(self, record: ClipRecord, indices: np.ndarray) -> np.ndarray:
        """Frames ``(N, size, size, 3)`` uint8 RGB of one clip by their indices ``(N,)``.

        Raises:
            UserError: The video is missing or damaged, or shorter than the manifest says.
        """
        source = self._open.get(record.id, lambda: self._map(record) if self.cache else self._reader(record))
        if isinstance(source, np.ndarray):
            return np.asarray(source[indices])
        return resize_bilinear(source.get(indices), self.size)

    def _reader(self, record: ClipRecord) -> VideoReader:
        reader = VideoReader(self.clips.video(record))
        if len(reader) < record.frames:
            told = f"{len(reader)} frames, the manifest says {record.frames}; prepare the data again"
            raise UserError(f"{reader.path}: {told}")
        return reader

    def _map(self, record: ClipRecord) -> np.ndarray:
        """Memory map of the decoded clip; decodes it first where there is none that fits."""
        name = f"{record.id}-{record.sha256[:8]}.npy" if record.sha256 else f"{record.id}.npy"
        path = self.root / "frames" / str(self.size) / name
        shape = (record.frames, self.size, self.size, 3)
        if path.is_file():
            try:
                stored = np.load(path, mmap_mode="r")
            except (ValueError, EOFError):
                stored = None  # damaged: decoded again below
            if stored is not None and stored.shape == shape and stored.dtype == np.uint8:
                return stored
        frames = self._reader(record).get(np.arange(record.frames))
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_output(path) as temporary:
            np.save(temporary, resize_bilinear(frames, self.size))
        return np.load(path, mmap_mode="r")
