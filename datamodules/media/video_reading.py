"""Reading anybody's video: every codec and container that FFmpeg knows, in the order of presentation."""

import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from datamodules.batches import FPS
from datamodules.errors import UserError
from datamodules.files import require_file
from datamodules.media.display import Display
from datamodules.media.video_decoding import DamagedVideoError, Decoder, LostError, Player
from datamodules.media.video_index import index_video


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file: number of frames, their mean rate, and their duration in seconds.

    ``height`` and ``width`` are in pixels, as shown: of square shape, upright where the file asks for a rotation.
    """

    frames: int
    fps: float
    height: int
    width: int
    duration: float
    has_audio: bool


class VideoReader:
    """The frames of a video: by index with `get`, in order with `frames`.

    All have the size of the first. A frame without a picture of its own (an empty chunk of an AVI file) repeats the one
    before it. The decoder stays open after `get` for the frames that follow; it stays behind when the reader is pickled or
    its process forks. Not to be shared by threads.

    Args:
        path: Any video file.
        strict: Whether damage that players paint over is refused.

    Attributes:
        info: Facts about the file.
        times: ``(N,)`` seconds of all frames from the first one.

    Raises:
        UserError: Missing, empty or damaged file, or no pictures in it.
    """

    def __init__(self, path: str | Path, strict: bool = False) -> None:
        self.path, self.strict = require_file(path, "video"), strict
        decoder = Decoder(self.path, strict)
        try:
            packet, picture = next(decoder.pictures, (0, None))
        except av.FFmpegError as error:
            raise DamagedVideoError(f"{self.path}: damaged video ({error.strerror}); get it again") from None
        if picture is None:
            raise UserError(f"{self.path}: holds no frames; it may be cut off: get it again")
        self.display = Display.of(picture, decoder.track, self.path)
        has_audio = bool(decoder.container.streams.audio)
        decoder.container.close()
        self.index = index_video(self.path, packet)
        self.times = self.index.times
        count, duration = len(self.times), self.index.duration
        height, width, _ = self.display.shape
        self.info = VideoInfo(count, float(count / duration), height, width, float(duration), has_audio)
        self._player: Player | None = None
        _readers.add(self)

    def __len__(self) -> int:
        return self.info.frames

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_player": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _readers.add(self)

    def at_rate(self, fps: float = FPS) -> np.ndarray:
        """Indices ``(T,)`` of the frames that show the video at a constant rate, as `read_video` takes them."""
        return nearest_frames(self.times, self.info.duration, fps)

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames by index, in the given order, repeats allowed, as ``(N, H, W, 3)`` uint8 RGB.

        Raises:
            IndexError: An index is outside 0..len - 1.
            DamagedVideoError: At or before one of the frames.
        """
        wanted = self._checked(indices)
        pictures = np.empty((len(wanted), *self.display.shape), np.uint8)
        player, self._player = self._player, None  # one that fails is not used again
        for place in np.argsort(wanted, kind="stable"):
            player = self._leading(player, wanted[place])
            pictures[place] = player.show(wanted[place])
        self._player = player
        return pictures

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Frames ``(H, W, 3)`` uint8 RGB one by one; a repeated picture is the same array again. Raises as `get`.

        Raises:
            ValueError: The indices decrease.
        """
        wanted = self._checked(indices)
        if (np.diff(wanted) < 0).any():
            raise ValueError("frames are played in order")
        player = None
        for frame in wanted:
            player = self._leading(player, frame)
            yield player.show(frame)

    def _checked(self, indices: Sequence[int] | np.ndarray) -> list[int]:
        wanted = [int(index) for index in indices]
        if wanted and (min(wanted) < 0 or max(wanted) >= len(self)):
            raise IndexError(f"{self.path}: frames {min(wanted)}..{max(wanted)} of 0..{len(self) - 1}")
        return wanted

    def _leading(self, player: Player | None, frame: int) -> Player:
        """The player, if going on leads to a frame soon, else another that begins before it."""
        if player is not None and player.leads_to(frame):
            return player
        video = (self.path, self.index, self.display, self.strict)
        for start in self.index.starts(frame):
            try:
                return Player(*video, start)
            except LostError:
                continue
        return Player(*video)


_readers: "weakref.WeakSet[VideoReader]" = weakref.WeakSet()
_left_behind: list[Any] = []


def _leave_decoders_behind() -> None:
    """In a forked process: forget the parent's decoders, unclosed, as that would wait for threads that are not there."""
    for reader in _readers:
        _left_behind.append(reader._player)
        reader._player = None


os.register_at_fork(after_in_child=_leave_decoders_behind)


def read_video(path: str | Path, fps: float = FPS) -> np.ndarray:
    """Read a whole video at a constant frame rate: ``(T, H, W, 3)`` uint8 RGB, T = duration * fps, rounded, at least 1.

    Frame k is the stored one whose time is nearest to k / fps after the first (the earlier of two equally near), whatever
    the stored rate, constant or not. A video stored at ``fps`` comes back frame for frame. Raises as `VideoReader`.
    """
    reader = VideoReader(path)
    return reader.get(reader.at_rate(fps))


def nearest_frames(times: np.ndarray, duration: float, fps: float) -> np.ndarray:
    """Index ``(T,)`` int64 of the frame nearest to each output time k / fps.

    ``times (N,)`` are increasing seconds, the first 0; ``duration`` is the end of the last frame.
    """
    wanted = np.arange(max(1, round(duration * fps))) / fps
    right = np.searchsorted(times, wanted).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    slack = 1e-6  # times are whole ticks of the container, at best microseconds
    return np.where(wanted - times[left] <= times[right] - wanted + slack, left, right)
