"""Decoding a video in order, with damage refused.

`VideoReader.get` jumps to any frame and conceals damage as players do; here every picture is decoded once, in a row, and the
decoder reports what it would else paint over. Data that is prepared for training is read this way.
"""

from collections.abc import Iterator, Sequence

import av
import numpy as np

from datamodules.audio import STRICT_DECODING
from datamodules.errors import UserError
from datamodules.video import VideoReader, open_container, upright

SEEK_FROM = 10.0
"""Seconds from the start beyond which decoding begins at a key frame in the middle of the file."""


def play(reader: VideoReader, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """Pictures of a video by index, one by one.

    Args:
        reader: The video.
        indices: Not decreasing, within the video; repeats are allowed.

    Yields:
        ``(H, W, 3)`` uint8 RGB; a repeated index yields the same array again.

    Raises:
        ValueError: The indices decrease.
        UserError: The file is damaged at or before one of the frames.
    """
    wanted = np.asarray(indices, dtype=int)
    if not len(wanted):
        return
    if (np.diff(wanted) < 0).any():
        raise ValueError("frames are played in order")
    place = 0
    for number, frame in _numbered(reader, int(wanted[0])):
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


def _numbered(reader: VideoReader, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their indices: from the start, or from a key frame before ``first``."""
    with open_container(reader.path) as container:
        stream = container.streams.video[0]
        if container.format.name == "avi" and stream.frames > len(reader):
            raise UserError(f"{reader.path}: holds {len(reader)} of {stream.frames} pictures; get it again")
        stream.codec_context.options = STRICT_DECODING
        sought = reader.times[first] > SEEK_FROM and _seek(reader, container, stream, first)
        number = -1
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    if sought and number < first - 1:
                        continue  # after a jump the decoder lacks what earlier pictures would have given it
                    raise
                for frame in frames:
                    number = _index(reader, stream, frame) if sought else number + 1
                    if frame.is_corrupt and not (sought and number < first):
                        raise _damaged(reader, number, "a broken picture")
                    yield number, frame
        except av.FFmpegError as error:
            raise _damaged(reader, max(number + 1, 0), str(error.strerror)) from None


def _seek(
    reader: VideoReader, container: av.container.InputContainer, stream: av.VideoStream, first: int
) -> bool:
    """Jump to the last key frame before a frame; False where the container can't."""
    if stream.time_base is None or stream.start_time is None:
        return False
    try:
        container.seek(stream.start_time + int(float(reader.times[first]) / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _index(reader: VideoReader, stream: av.VideoStream, frame: av.VideoFrame) -> int:
    """Number of a frame by its time."""
    if frame.pts is None or stream.time_base is None or stream.start_time is None:
        raise UserError(f"{reader.path}: has pictures without times; convert it to mp4")
    seconds = float((frame.pts - stream.start_time) * stream.time_base)
    return int(np.abs(reader.times - seconds).argmin())


def _damaged(reader: VideoReader, number: int, what: str) -> UserError:
    seconds = reader.times[min(number, len(reader.times) - 1)]
    return UserError(f"{reader.path}: damaged video at {seconds:.1f} s ({what}); get it again")
