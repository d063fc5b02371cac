"""Reading and writing video: the only place that decodes or encodes it.

Anybody's file is read by PyAV, in the order of presentation: every codec and container that FFmpeg knows. What is written is
H.264 + AAC. For clips that preparation wrote there is `clip_reading`.
"""

import itertools
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange

from datamodules.batches import FPS, SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.files import require_file, whole_output
from datamodules.media.display import Display
from datamodules.media.sound_track import SoundTrack, encodable_sound
from datamodules.media.video_decoding import DamagedPackets, DamagedVideoError, Decoder, LostError, Player
from datamodules.media.video_index import index_video

_HD_LINES = 720
_BT709 = 1  # ITU-T H.273
_OUTPUT_SUFFIXES = (".mp4", ".m4v", ".mov")


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


def probe(path: str | Path) -> VideoInfo:
    """Read the facts of a video from its packets, decoding the first picture alone; raises as `VideoReader`."""
    return VideoReader(path).info


class VideoReader:
    """The frames of a video: by index with `get`, in order with `frames`.

    All have the size of the first. A frame without a picture of its own (an empty chunk of an AVI file) repeats the one
    before it. The decoder stays open after `get` for the frames that follow; it stays behind when the reader is pickled or
    its process forks. Not to be shared by threads.

    Args:
        path: Any video file.
        strict: Whether damage that players paint over is refused, and packets that can't be decoded. Else where a few of
            these are, the picture before stays, for 0.25 s at most; `warn_of_damage` tells.

    Attributes:
        info: Facts about the file.
        times: ``(N,)`` seconds of all frames from the first one.

    Raises:
        UserError: Missing, empty or damaged file, or no pictures in it.
    """

    _decoders: tuple[str, ...] = ("_player",)
    """Attributes that stay behind."""

    def __init__(self, path: str | Path, strict: bool = False) -> None:
        self.path, self.strict = require_file(path, "video", regular=True), strict
        decoder = Decoder(self.path, strict)
        try:
            packet, picture = next(decoder.pictures, (0, None))
        except av.FFmpegError as error:
            raise DamagedVideoError(f"{self.path}: damaged video ({error.strerror}); get it again") from None
        if picture is None:
            raise UserError(f"{self.path}: holds no frames; it may be cut off: get it again")
        self.display = Display.of(picture, decoder.track, self.path)
        has_audio = bool(decoder.container.streams.audio)
        self.index = index_video(self.path, packet)
        self.times = self.index.times
        count, duration = len(self.times), self.index.duration
        height, width, _ = self.display.shape
        self.info = VideoInfo(count, float(count / duration), height, width, float(duration), has_audio)
        self._player: Player | None = None
        self._damaged = DamagedPackets(self.path, self.index, strict)
        _readers.add(self)

    def __len__(self) -> int:
        return self.info.frames

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **dict.fromkeys(self._decoders)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _readers.add(self)

    def at_rate(self) -> np.ndarray:
        """Indices ``(T,)`` of the frames that show the video at 25 fps, T = 25 * duration, rounded, at least 1.

        Frame k is the one whose time is nearest to k / 25 s after the first (the earlier of two equally near), whatever
        the stored rate, constant or not. A video stored at 25 fps comes back frame for frame.
        """
        return nearest_frames(self.times, self.info.duration)

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
        self.warn_of_damage()

    def warn_of_damage(self) -> str:
        """Warn, once, of the damaged frames that were met so far; the line comes back, empty where there were none.

        For whoever has read a video in several parts: `frames` and `read_video` do it at their end.
        """
        return self._damaged.warn()

    def _checked(self, indices: Sequence[int] | np.ndarray) -> list[int]:
        wanted = [int(index) for index in indices]
        if wanted and (min(wanted) < 0 or max(wanted) >= len(self)):
            raise IndexError(f"{self.path}: frames {min(wanted)}..{max(wanted)} of 0..{len(self) - 1}")
        return wanted

    def _leading(self, player: Player | None, frame: int) -> Player:
        """The player, if going on leads to a frame soon, else another that begins before it."""
        if player is not None and player.leads_to(frame):
            return player
        video = (self.path, self.index, self.display, self.strict, self._damaged)
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
        for name in reader._decoders:
            _left_behind.append(getattr(reader, name))
            setattr(reader, name, None)


os.register_at_fork(after_in_child=_leave_decoders_behind)


def read_video(path: str | Path) -> np.ndarray:
    """A whole video at 25 fps, ``(T, H, W, 3)`` uint8 RGB, see `VideoReader.at_rate`; raises as `VideoReader`."""
    reader = VideoReader(path)
    frames = reader.get(reader.at_rate())
    reader.warn_of_damage()
    return frames


def nearest_frames(times: np.ndarray, duration: float) -> np.ndarray:
    """Index ``(T,)`` int64 of the stored picture nearest to each time k / 25 s.

    ``times (N,)`` are increasing seconds, the first 0; ``duration`` is the end of the last picture.
    """
    wanted = np.arange(max(1, round(duration * FPS))) / FPS
    right = np.searchsorted(times, wanted).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    slack = 1e-6  # times are whole ticks of the container, at best microseconds
    return np.where(wanted - times[left] <= times[right] - wanted + slack, left, right)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    audio: np.ndarray | None = None,
    sample_rate: int = SAMPLE_RATE,
    crf: int = 18,
    threads: int = 0,
) -> None:
    """Write H.264 (yuv420p) at 25 fps, a key frame each second, with AAC sound, index in front; it appears only when whole.

    From 720 lines on colours are those of BT.709, and tagged so, as players take them for; below they are BT.601's.
    Picture and sound start together (the encoder's lead-in is skipped by an edit list) and each keeps its own length:
    cut or pad the sound to the frames beforehand.

    Args:
        path: Output file, ``.mp4``, ``.m4v`` or ``.mov``.
        frames: ``(H, W, 3)`` uint8 RGB each, taken one by one; an odd height or width is padded by its last row or column.
        audio: ``(S,)`` or ``(S, C)`` float in [-1, 1], more than two channels are averaged; None for a silent file.
        sample_rate: Of the sound in Hz; a rate that AAC lacks is resampled to the next higher one (48 kHz at most).
        crf: x264 quality, 0 lossless .. 51 worst.
        threads: Of the encoder, which the bytes depend on; 0: as many as it likes.

    Raises:
        UserError: The output cannot be written there.
        ValueError: No frames, frames of differing or wrong shape or type, or wrong sound.
    """
    if Path(path).suffix.lower() not in _OUTPUT_SUFFIXES:
        raise UserError(f"{path}: video is written as mp4; name the output something.mp4")
    sound, rate = (None, 0) if audio is None else encodable_sound(audio, sample_rate)
    iterator = iter(frames)
    with whole_output(path) as temporary:
        first = next(iterator, None)
        if first is None:
            raise ValueError("no frames to write")
        _check_frame(first, first.shape)
        with av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
            options = {"crf": str(crf), "g": str(FPS), "preset": "medium", **_repeatable()}
            picture = container.add_stream("libx264", rate=FPS, options=options)
            picture.height, picture.width = (side + side % 2 for side in first.shape[:2])
            picture.pix_fmt = "yuv420p"
            picture.codec_context.thread_count = threads
            high_definition = picture.height >= _HD_LINES
            if high_definition:
                for tag in ("colorspace", "color_primaries", "color_trc"):
                    setattr(picture.codec_context, tag, _BT709)
                picture.codec_context.color_range = ColorRange.MPEG
            track = None if sound is None else SoundTrack(container, sound, rate)
            for index, frame in enumerate(itertools.chain([first], iterator)):
                _check_frame(frame, first.shape)
                container.mux(picture.encode(_video_frame(frame, index, high_definition)))
                if track is not None:
                    track.write_until((index + 1) / FPS)
            container.mux(picture.encode(None))
            if track is not None:
                track.finish()


def _repeatable() -> dict[str, str]:
    """Options without which x264 does not give the same bytes for the same pictures.

    Its code for AVX-512 reads memory that nobody wrote (seen in build 165 on Sapphire Rapids, every second file another);
    that for AVX2, which every such processor has too, does not.
    """
    return {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}


def _check_frame(frame: np.ndarray, shape: tuple[int, ...]) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
        raise ValueError(
            f"frames must be (H, W, 3) uint8 of one size, got {frame.shape} {frame.dtype} after {shape}"
        )


def _video_frame(frame: np.ndarray, index: int, high_definition: bool) -> av.VideoFrame:
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    result = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    if high_definition:
        result = result.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=ColorRange.MPEG)
    result.pts = index
    return result
