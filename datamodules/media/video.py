"""Reading and writing video: the only place that decodes or encodes it.

decord reads by frame index; where it refuses a file, PyAV decodes it instead. The two return the same bytes
(both are FFmpeg with the same conversion to RGB), so which of them read a file makes no difference. PyAV writes H.264 + AAC.
"""

import itertools
import logging
import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from datamodules.batches import FPS, SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.files import require_file, whole_output
from datamodules.media.audio import require_whole
from datamodules.media.sound_track import SoundTrack, encodable_sound

_OUTPUT_SUFFIXES = (".mp4", ".m4v", ".mov")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file: number of stored pictures, their mean rate, and their duration in seconds.

    ``height`` and ``width`` are in pixels, as shown: upright where the file asks for a rotation.
    """

    frames: int
    fps: float
    height: int
    width: int
    duration: float
    has_audio: bool


def open_container(path: Path) -> av.container.InputContainer:
    """Open a file for decoding; UserError unless there is a video in it."""
    try:
        container = av.open(str(path), metadata_errors="ignore")  # a tag in Latin-1 harms no picture
    except av.FFmpegError as error:
        told = f"cannot be read as video ({error.strerror}); it may be cut off or no video: get it again"
        raise UserError(f"{path}: {told}") from None
    if container.format.name in ("tty", "image2") or container.format.name.endswith("_pipe"):
        container.close()
        raise UserError(f"{path}: is no video ({container.format.long_name}); give a video such as mp4")
    streams = container.streams.video
    if not streams or streams[0].disposition & av.stream.Disposition.attached_pic:
        container.close()
        raise UserError(f"{path}: has no pictures, only sound; give a video")
    return container


def _frame_times(path: Path) -> tuple[np.ndarray, Fraction]:
    """Times ``(N,)`` of all pictures in seconds from the first, and the end of the last; nothing is decoded."""
    with open_container(path) as container:
        stream = container.streams.video[0]
        try:
            packets = sorted(
                (packet.pts, packet.duration or 0)
                for packet in container.demux(stream)
                if packet.pts is not None and not packet.is_discard
            )
        except av.FFmpegError as error:
            raise UserError(f"{path}: damaged video ({error.strerror}); get it again") from None
        if not packets:
            raise UserError(f"{path}: holds no frames; it may be cut off: get it again")
        tick = stream.time_base or Fraction(1, av.time_base)
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        first, (last, length) = packets[0][0], packets[-1]
        end = (last - first) * tick + (length * tick if length else 1 / rate)
        require_whole(path, container, stream, end)
    times = np.array([pts - first for pts, _ in packets], dtype=np.float64) * float(tick)
    return times, end


def probe(path: str | Path) -> VideoInfo:
    """Read the facts of a video from its packets, decoding the first picture alone; raises as `VideoReader`."""
    return VideoReader(path).info


class VideoReader:
    """Random access to the frames of a video.

    The decoder opens at the first `get`. It stays behind when the reader is pickled or its process forks, so every
    worker gets its own. Not to be shared by threads.

    Attributes:
        info: Facts about the file.
        times: ``(N,)`` seconds of all pictures from the first one.

    Raises:
        UserError: Missing, empty or damaged file, or no pictures in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = require_file(path, "video")
        self.times, duration = _frame_times(self.path)
        height, width = _decode_by_pyav(self.path, [0]).shape[1:3]
        with open_container(self.path) as container:
            has_audio = bool(container.streams.audio)
        count = len(self.times)
        self.info = VideoInfo(count, float(count / duration), height, width, float(duration), has_audio)
        self._decoder: Any = None
        self._refused = False  # whether decord does not read the file
        _readers.add(self)

    def __len__(self) -> int:
        return self.info.frames

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _readers.add(self)

    def at_rate(self) -> np.ndarray:
        """Indices ``(T,)`` of the stored pictures that show the video at 25 fps, T = 25 * duration, rounded, at least 1.

        Frame k is the picture whose time is nearest to k / 25 s after the first (the earlier of two equally near), whatever
        the stored rate, constant or not. A video stored at 25 fps comes back frame for frame.
        """
        return nearest_frames(self.times, self.info.duration)

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames by index, in the given order, repeats allowed, as ``(N, H, W, 3)`` uint8 RGB.

        Raises:
            IndexError: An index is outside 0..len - 1.
            UserError: The file is damaged at one of the frames.
        """
        wanted = [int(index) for index in indices]
        if not wanted:
            return np.empty((0, self.info.height, self.info.width, 3), np.uint8)
        if min(wanted) < 0 or max(wanted) >= len(self):
            raise IndexError(f"{self.path}: frames {min(wanted)}..{max(wanted)} of 0..{len(self) - 1}")
        if self._decoder is None and not self._refused:
            self._decoder = _decord_reader(self.path, len(self))
            self._refused = self._decoder is None
        if self._decoder is not None:
            import decord

            try:
                return self._decoder.get_batch(wanted).asnumpy()
            except decord.DECORDError:
                self._decoder, self._refused = None, True  # PyAV decides whether the file is damaged
        return _decode_by_pyav(self.path, wanted)


_readers: "weakref.WeakSet[VideoReader]" = weakref.WeakSet()
_left_behind: list[Any] = []


def _leave_decoders_behind() -> None:
    """In a forked process: forget the parent's decoders, unclosed, as that would wait for threads that are not there."""
    for reader in _readers:
        _left_behind.append(reader._decoder)
        reader._decoder = None


os.register_at_fork(after_in_child=_leave_decoders_behind)


def _decord_reader(path: Path, frames: int) -> Any:
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


def _decode_by_pyav(path: Path, wanted: list[int]) -> np.ndarray:
    """Decode from the start up to the last wanted frame: slow, for files that decord does not read."""
    pictures: dict[int, np.ndarray] = {}
    keep, last = set(wanted), max(wanted)
    with open_container(path) as container:
        try:
            for index, frame in enumerate(container.decode(video=0)):
                if index in keep:
                    pictures[index] = upright(frame)
                if index == last:
                    break
        except av.FFmpegError as error:
            raise UserError(f"{path}: damaged video ({error.strerror}); get it again") from None
    missing = keep - pictures.keys()
    if missing:
        raise UserError(f"{path}: damaged video, frame {min(missing)} is missing; get it again")
    return np.stack([pictures[index] for index in wanted])


def upright(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as ``(H, W, 3)`` uint8 RGB, turned as the file asks for."""
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # degrees counterclockwise


def read_video(path: str | Path) -> np.ndarray:
    """A whole video at 25 fps, ``(T, H, W, 3)`` uint8 RGB, see `VideoReader.at_rate`; raises as `VideoReader`."""
    reader = VideoReader(path)
    return reader.get(reader.at_rate())


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
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            options = {"crf": str(crf), "g": str(FPS), "preset": "medium", **_repeatable()}
            picture = container.add_stream("libx264", rate=FPS, options=options)
            picture.height, picture.width = (side + side % 2 for side in first.shape[:2])
            picture.pix_fmt = "yuv420p"
            picture.codec_context.thread_count = threads
            track = None if sound is None else SoundTrack(container, sound, rate)
            for index, frame in enumerate(itertools.chain([first], iterator)):
                _check_frame(frame, first.shape)
                container.mux(picture.encode(_video_frame(frame, index)))
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


def _video_frame(frame: np.ndarray, index: int) -> av.VideoFrame:
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    result = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    result.pts = index
    return result
