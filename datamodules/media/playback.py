"""Decoding a video in order, with damage refused.

`VideoReader.get` jumps to any frame and conceals damage as players do; here every picture is decoded once, in a row, and the
decoder reports what it would else paint over. Data that is prepared for training is read this way.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import av
import numpy as np

from datamodules.errors import UserError
from datamodules.media.audio import STRICT_DECODING
from datamodules.media.video import VideoReader, open_container, upright

SEEK_FROM = 20.0
"""Seconds from the start beyond which decoding begins in the middle of the file."""
LEAD = 5.0
"""Seconds before the first wanted picture that are aimed at: the decoder finds its feet on the way."""


class DamagedVideoError(UserError):
    """A video that is not what its maker wrote."""


class _LostError(Exception):
    """After a jump the decoder gave pictures that can't be told apart, or came out too late."""


def play(
    reader: VideoReader, indices: Sequence[int] | np.ndarray, seek_from: float = SEEK_FROM, lead: float = LEAD
) -> Iterator[np.ndarray]:
    """Pictures ``(H, W, 3)`` uint8 RGB of a video by index, one by one; a repeated index yields the same array again.

    Raises:
        ValueError: The indices decrease.
        DamagedVideoError: At or before one of the frames.
    """
    wanted = np.asarray(indices, dtype=int)
    if not len(wanted):
        return
    if (np.diff(wanted) < 0).any():
        raise ValueError("frames are played in order")
    place = 0
    for number, frame in _from(reader, int(wanted[0]), seek_from, lead):
        if number > wanted[place]:
            break  # one is missing
        if number < wanted[place]:
            continue
        picture = upright(frame)
        while place < len(wanted) and wanted[place] == number:
            yield picture
            place += 1
        if place == len(wanted):
            return
    raise _damaged(reader, int(wanted[place]), "a picture is missing")


def _from(
    reader: VideoReader, first: int, seek_from: float, lead: float
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their indices, from ``first`` or before: by a jump where that works, else from the start."""
    if reader.times[first] > seek_from:
        frames = _after_jump(reader, first, lead)
        with contextlib.suppress(StopIteration, _LostError):
            start = next(frames)
            return itertools.chain([start], frames)
    return _from_start(reader)


def _from_start(reader: VideoReader) -> Iterator[tuple[int, av.VideoFrame]]:
    with _opened(reader) as (container, stream):
        number = -1
        try:
            for number, frame in enumerate(container.decode(stream)):
                if frame.is_corrupt:
                    raise _damaged(reader, number, "a broken picture")
                yield number, frame
        except av.FFmpegError as error:
            raise _damaged(reader, number + 1, str(error.strerror)) from None


def _after_jump(reader: VideoReader, first: int, lead: float) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames from ``first`` on, told by their times; ``_LostError`` before the first one where that can't be."""
    with _opened(reader) as (container, stream):
        if container.format.name == "avi" or stream.time_base is None or stream.start_time is None:
            raise _LostError  # AVI keeps no times of pictures
        expected = first
        try:
            goal = stream.start_time + int(float(reader.times[first] - lead) / stream.time_base)
            container.seek(goal, stream=stream)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    if expected > first:
                        raise
                    continue  # the decoder lacks what earlier pictures would have given it
                for frame in frames:
                    number = _index(reader, stream, frame)
                    if number < first:
                        continue
                    if number != expected or frame.is_corrupt:
                        raise _LostError
                    yield number, frame
                    expected += 1
        except av.FFmpegError as error:
            if expected == first:
                raise _LostError from None
            raise _damaged(reader, expected, str(error.strerror)) from None
        except _LostError:
            if expected == first:
                raise
            raise _damaged(reader, expected, "a picture is missing") from None


@contextlib.contextmanager
def _opened(reader: VideoReader) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    with open_container(reader.path) as container:
        stream = container.streams.video[0]
        if container.format.name == "avi" and stream.frames > len(reader):
            held = f"holds {len(reader)} of {stream.frames} pictures"
            raise DamagedVideoError(f"{reader.path}: {held}; get it again")
        stream.codec_context.options = STRICT_DECODING
        yield container, stream


def _index(reader: VideoReader, stream: av.VideoStream, frame: av.VideoFrame) -> int:
    """Number of a frame by its time; -1 where no picture has this time."""
    if frame.pts is None or stream.time_base is None or stream.start_time is None:
        return -1
    seconds = float((frame.pts - stream.start_time) * stream.time_base)
    number = int(np.abs(reader.times - seconds).argmin())
    return number if abs(reader.times[number] - seconds) < 0.5 * float(stream.time_base) else -1


def _damaged(reader: VideoReader, number: int, what: str) -> DamagedVideoError:
    seconds = reader.times[min(number, len(reader.times) - 1)]
    return DamagedVideoError(f"{reader.path}: damaged video at {seconds:.1f} s ({what}); get it again")
