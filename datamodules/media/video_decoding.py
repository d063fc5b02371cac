"""Decoding a video in the order of presentation, from its start or from a key frame on.

A picture is told by the packet that it comes from: neither B-frames nor open groups of pictures, nor what a decoder leaves
out at the start of a file or after a jump, shift one against another.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from datamodules.errors import UserError
from datamodules.media.audio import STRICT_DECODING
from datamodules.media.display import Display
from datamodules.media.video_index import VideoIndex, open_container, picture_track

_NEAR = 50
"""Packets before the next place to jump to within which decoding just goes on."""
_MOST_HELD = 0.25
"""Seconds that a picture stands in for others that the decoder does not give."""


class DamagedVideoError(UserError):
    """A video that is not what its maker wrote."""


class LostError(Exception):
    """A jump led elsewhere, or where the decoder does not begin."""


class Decoder:
    """The pictures of a file from its start, or from the key packet at place ``start`` of an index on.

    Attributes:
        pictures: Each with the number of its packet, in the order of presentation; ends in an FFmpegError at damage.
        fed: Number of the last packet that was given to FFmpeg.
    """

    def __init__(
        self, path: Path, strict: bool, index: VideoIndex | None = None, start: int | None = None
    ) -> None:
        self.container = open_container(path)
        self.track = picture_track(self.container)
        self.track.codec_context.copy_opaque = True
        if strict:
            self.track.codec_context.options = STRICT_DECODING
        self.fed = -1
        stored = enumerate(self.container.demux(self.track))
        self.pictures = self._decode(stored if index is None or start is None else self._jump(index, start))

    def _jump(self, index: VideoIndex, start: int) -> Iterator[tuple[int, av.Packet]]:
        goal, number = int(index.keys[start]), -1
        self.container.seek(index.jumps[start], stream=self.track)
        for packet in self.container.demux(self.track):
            if number < 0:
                found = index.known.get((packet.pts, packet.size), -1)
                if found > goal:
                    raise LostError
                if found < goal:
                    continue
                number = goal
            yield number, packet
            number += 1

    def _decode(self, packets: Iterator[tuple[int, av.Packet]]) -> Iterator[tuple[int, av.VideoFrame]]:
        begun, first, damage = False, None, None
        for number, packet in packets:
            if not packet.size:
                continue
            if packet.is_keyframe and not begun:
                begun, first = True, packet.pts
            self.fed = number
            packet.opaque = [number]  # an object of its own: PyAV finds it again by its address
            try:
                pictures = packet.decode()
            except av.FFmpegError as error:
                leading = first is not None and packet.pts is not None and packet.pts < first
                if not begun or leading:
                    continue  # FFmpeg lacks what earlier packets would have given it
                damage = error
                break
            yield from map(_numbered, pictures)
        yield from map(_numbered, self.track.codec_context.decode(None))
        if damage is not None:
            raise damage


def _numbered(picture: av.VideoFrame) -> tuple[int, av.VideoFrame]:
    number = picture.opaque
    assert isinstance(number, list)
    return number[0], picture


class Player:
    """Shows the frames of a video from the start, or from place ``start`` of its index's ``keys`` on: forwards alone.

    Raises:
        LostError: There is no way from that place.
    """

    def __init__(
        self, path: Path, index: VideoIndex, display: Display, strict: bool, start: int | None = None
    ) -> None:
        self.path, self.index, self.display, self.strict = path, index, display, strict
        self._decoder = Decoder(path, strict, index, start)
        self._pictures = self._in_index()
        self._frame, self._pixels = -1, np.empty(0, np.uint8)
        self._picture: av.VideoFrame | None = None
        self._ahead = None if start is None else self._arrive(int(index.frames[index.keys[start]]))

    def leads_to(self, frame: int) -> bool:
        """Whether going on leads to a frame as fast as a jump."""
        if self.index.shown[frame] < self._frame:
            return False
        starts = self.index.starts(frame)
        return not starts or bool(self.index.keys[starts[0]] <= self._decoder.fed + _NEAR)

    def show(self, frame: int) -> np.ndarray:
        """Pixels ``(H, W, 3)`` of a frame, none before the last one; the same array while the picture is the same.

        Raises:
            DamagedVideoError: At or before the frame.
        """
        goal, last = int(self.index.shown[frame]), self._frame
        while self._frame < goal:
            self._ahead = self._ahead or self._next()
            if self._ahead is None or self._ahead[0] > goal:
                break
            (self._frame, self._picture), self._ahead = self._ahead, None
        missing = self.index.times[goal] - self.index.times[self._frame]
        if self._picture is None or missing > (0 if self.strict else _MOST_HELD):
            raise self._damaged(goal, "a picture is missing")
        if self._frame != last:
            self._pixels = self.display.pixels(self._picture)
        return self._pixels

    def _in_index(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames and their pictures."""
        own = iter(np.flatnonzero(self.index.packets >= 0).tolist())
        for packet, picture in self._decoder.pictures:
            frame = next(own, -1) if self.index.counted else int(self.index.frames[packet])
            if frame >= 0:
                yield frame, picture

    def _next(self) -> tuple[int, av.VideoFrame] | None:
        try:
            following = next(self._pictures, None)
        except av.FFmpegError as error:
            raise self._damaged(self._frame + 1, str(error.strerror)) from None
        if self.strict and following is not None and following[1].is_corrupt:
            raise self._damaged(following[0], "a broken picture")
        return following

    def _arrive(self, goal: int) -> tuple[int, av.VideoFrame]:
        """The picture of the key frame that was jumped to."""
        try:
            first = next((one for one in self._pictures if one[0] >= goal), None)
        except av.FFmpegError:
            raise LostError from None
        if first is None or first[0] != goal or not first[1].key_frame:
            raise LostError
        return first

    def _damaged(self, frame: int, what: str) -> DamagedVideoError:
        seconds = self.index.times[min(frame, len(self.index.times) - 1)]
        return DamagedVideoError(f"{self.path}: damaged video at {seconds:.1f} s ({what}); get it again")
