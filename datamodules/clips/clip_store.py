"""Where the files of prepared clips are, and random access to their frames and sound."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.annotations import read_shapes
from datamodules.clips.lru_cache import LRUCache
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.media.audio import fit_length, frame_count, load_audio
from datamodules.media.clip_reading import ClipReader
from datamodules.media.pictures import resize_bilinear

MAX_OPEN = 16
"""Readers (or memory maps) that one worker process keeps open."""
MOST_MISSING = 1
"""Frames that a clip's sound may lack at its end, which are silent then; preparation writes all of them."""
MAX_SOUNDS = 64
"""Clips whose sound one worker process keeps: 40 MB at 10 s each."""


class ClipStore:
    """Files of the clips in the dataset folder ``root``; a subclass may get them from elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def video(self, record: ClipRecord) -> Path:
        """Video file of a clip."""
        return self._path(record, record.video)

    def audio(self, record: ClipRecord) -> Path:
        """File with a clip's sound: the video itself where there is no other."""
        return self._path(record, record.audio or record.video)

    def sound(self, record: ClipRecord) -> np.ndarray:
        """Sound of a clip, ``(640 T,)`` float32 in [-1, 1] at 16 kHz.

        Raises:
            UserError: It can't be read, or a file of its own ends more than ``MOST_MISSING`` frames before the pictures.
        """
        path = self.audio(record)
        waveform = load_audio(path)
        lasts = frame_count(len(waveform))
        if record.audio is not None and record.frames - lasts > MOST_MISSING:
            told = f"sound of {lasts} frames, the manifest says {record.frames}; prepare the data again"
            raise UserError(f"{path}: {told}")
        return fit_length(waveform, record.frames)

    def annotations(self, record: ClipRecord) -> Path | None:
        """Annotation file of a clip, if it has one."""
        return None if record.annotations is None else self._path(record, record.annotations)

    def shapes(self, record: ClipRecord) -> dict[str, tuple[int, ...]]:
        """Shapes of the annotations' arrays by name; none without annotations."""
        path = self.annotations(record)
        return {} if path is None else read_shapes(path)

    def _path(self, record: ClipRecord, relative: str) -> Path:
        return self.root / relative


def as_store(clips: "Path | ClipStore") -> ClipStore:
    """The clips of a dataset folder, or what is a store already."""
    return clips if isinstance(clips, ClipStore) else ClipStore(clips)


class ClipFrames:
    """Random access to the frames of a dataset's clips.

    Readers are opened where they are used and not pickled (``ClipReader`` leaves its decoder behind in a
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

    def _reader(self, record: ClipRecord) -> ClipReader:
        reader = ClipReader(self.clips.video(record))
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


class DeviceFrames(ClipFrames):
    """As `ClipFrames`, but every clip stays in the memory of a device from its first access on, and gives its frames there.

    For a GPU with room for all of them: 12 GB for 60,000 frames at 256 pixels.

    Args:
        clips: Dataset folder, or where else the clips' files are.
        size: Edge of the frames in pixels.
        device: Where they are kept.
        cache: Whether to keep decoded frames on disk, too.
    """

    def __init__(self, clips: Path | ClipStore, size: int, device: torch.device, cache: bool = False) -> None:
        super().__init__(clips, size, cache)
        self.device = device
        self._held: dict[str, torch.Tensor] = {}

    def get(self, record: ClipRecord, indices: np.ndarray) -> torch.Tensor:  # type: ignore[override]
        """Frames ``(N, 3, size, size)`` uint8 RGB of one clip by their indices ``(N,)``, on the device.

        Raises:
            UserError: The video is missing or damaged, or shorter than the manifest says.
        """
        if record.id not in self._held:
            frames = np.ascontiguousarray(super().get(record, np.arange(record.frames)))
            self._held[record.id] = (
                torch.as_tensor(frames, device=self.device).permute(0, 3, 1, 2).contiguous()
            )
        return self._held[record.id][torch.as_tensor(indices, device=self.device)]


class ClipSounds:
    """Random access to the sound of a store's clips; the last ``most`` stay in memory."""

    def __init__(self, clips: ClipStore, most: int = MAX_SOUNDS) -> None:
        self.clips = clips
        self._held: LRUCache[np.ndarray] = LRUCache(most)

    def get(self, record: ClipRecord, start: int, frames: int) -> np.ndarray:
        """Sound of ``frames`` frames from frame ``start``: ``(640 frames,)`` float32 in [-1, 1] at 16 kHz."""
        held = self._held.get(record.id, lambda: self.clips.sound(record))
        begin = start * SAMPLES_PER_FRAME
        return held[begin : begin + frames * SAMPLES_PER_FRAME].copy()
