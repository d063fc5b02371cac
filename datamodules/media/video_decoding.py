"""Decoding a video in the order of presentation, from its start or from a key frame on.

A picture is told by the packet that it comes from: neither B-frames nor open groups of pictures, nor what a decoder leaves
out at the start of a file or after a jump, shift one against another.
"""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from datamodules.errors import UserError
from datamodules.media.containers import STRICT_DECODING, packets_of
from datamodules.media.display import Display
from datamodules.media.video_index import VideoIndex, open_video

_NEAR = 50
"""Packets before the next place to jump to within which decoding just goes on."""
_MOST_HELD = 0.25
"""Seconds that a picture stands in for others that the decoder does not give."""
_MOST_DAMAGED = 0.05
"""Share of the packets."""
_log = logging.getLogger(__name__)


class DamagedVideoError(UserError):
    """A video that is not what its maker wrote."""


class LostError(Exception):
    """A jump led elsewhere, or where the decoder does not begin."""


class DamagedPackets:
    """The packets of a video that FFmpeg can't decode, or paints over: a few are passed over where reading is not strict."""

    def __init__(self, path: Path, index: VideoIndex, strict: bool) -> None:
        self.path, self._strict, self._counted = path, strict, index.counted
        self._packets = len(index.frames)
        self._found: set[int] = set()
        self._warned = False

    def pass_over(self, number: int, painted: bool = False) -> bool:
        """Whether to go on after this one, of which there is a ``painted`` picture or none.

        There must be one in a video whose pictures are told by counting them.
        """
        if self._strict or (self._counted and not painted):
            return False
        self._found.add(number)
        return len(self._found) <= max(1, _MOST_DAMAGED * self._packets)

    def warn(self) -> str:
        """Say, once, how many were passed over so far, in one line that comes back; empty where none was."""
        if not self._found:
            return ""
        told = f"{len(self._found)} of {self._packets} frames are damaged; the one before stays instead; get it again"
        if not self._warned:
            _log.warning("%s: %s", self.path, told)
        self._warned = True
        return f"{self.path}: {told}"


class Decoder:
    """The pictures of a file from its start, or from the key packet at place ``start`` of an index on.

    Attributes:
        pictures: Each with the number of its packet, in the order of presentation; ends in an FFmpegError at damage.
    """

    def __init__(
        self,
        path: Path,
        strict: bool = False,
        index: VideoIndex | None = None,
        start: int | None = None,
        damaged: DamagedPackets | None = None,
    ) -> None:
        self.container, self.track = open_video(path)
        self.track.codec_context.copy_opaque = True
        if strict:
            self.track.codec_context.options = STRICT_DECODING
        packets = packets_of(self.container, self.track)
        numbered: Iterator[tuple[int, av.Packet]] = enumerate(packets)
        if index is not None and start is not None:
            self.container.seek(index.jumps[start], stream=self.track)
            numbered = _found(packets, index, int(index.keys[start]))
        self._fed = [-1]
        self.pictures = _decoded(numbered, self.track.codec_context, self._fed, damaged)

    def __del__(self) -> None:
        if hasattr(self, "container"):
            self.container.close()

    @property
    def fed(self) -> int:
        """Number of the last packet that was given to FFmpeg; -1: none."""
        return self._fed[0]


def _found(packets: Iterator[av.Packet], index: VideoIndex, goal: int) -> Iterator[tuple[int, av.Packet]]:
    """Packets after a jump with their numbers, from key packet ``goal`` on."""
    for packet in packets:
        found = index.known.get((packet.pts, packet.size), -1)
        if found > goal:
            raise LostError
        if found == goal:
            yield goal, packet
            break
    yield from enumerate(packets, goal + 1)


def _decoded(
    packets: Iterator[tuple[int, av.Packet]],
    codec: av.VideoCodecContext,
    fed: list[int],
    damaged: DamagedPackets | None,
) -> Iterator[tuple[int, av.VideoFrame]]:
    begun, first, damage = False, None, None
    for number, packet in packets:
        if not packet.size:
            continue
        if packet.is_keyframe and not begun:
            begun, first = True, packet.pts
        fed[0] = number
        packet.opaque = [number]  # an object of its own: PyAV finds it again by its address
        try:
            pictures = codec.decode(packet)
        except av.FFmpegError as error:
            leading = first is not None and packet.pts is not None and packet.pts < first
            if not begun or leading:
                continue  # FFmpeg lacks what earlier packets would have given it
            if damaged is not None and damaged.pass_over(number):
                continue
            damage = error
            break
        yield from map(_numbered, pictures)
    yield from map(_numbered, codec.decode(None))
    if damage is not None:
        raise damage


def _numbered(picture: av.VideoFrame) -> tuple[int, av.VideoFrame]:
    number = picture.opaque
    assert isinstance(number, list)
    return number[0], picture


def pictures_start(path: Path) -> Fraction | None:
    """Seconds on the clock of a file at which its first picture is seen; None where it has no clock or no picture."""
    decoder = Decoder(path)
    start, tick = decoder.track.start_time, decoder.track.time_base
    try:
        _, picture = next(decoder.pictures, (0, None))
    except av.FFmpegError:
        picture = None
    if picture is not None and picture.pts is not None and decoder.container.format.name != "avi":
        start = picture.pts
    return None if start is None or tick is None else start * tick


class Player:
    """Shows the frames of a video from the start, or from place ``start`` of its index's ``keys`` on: forwards alone.

    Raises:
        LostError: There is no way from that place.
    """

    def __init__(
        self,
        path: Path,
        index: VideoIndex,
        display: Display,
        strict: bool,
        damaged: DamagedPackets,
        start: int | None = None,
    ) -> None:
        self.path, self.index, self.display, self.strict = path, index, display, strict
        self._damaged_packets = damaged
        try:
            self._decoder = Decoder(path, strict, index, start, damaged)
        except av.FFmpegError:  # it does not jump
            raise LostError from None
        self._pictures = _framed(self._decoder.pictures, index)
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

    def _next(self) -> tuple[int, av.VideoFrame] | None:
        """The next picture that is not broken; of the first frame a broken one too, as none is before it."""
        while True:
            try:
                following = next(self._pictures, None)
            except av.FFmpegError as error:
                raise self._damaged(self._frame + 1, str(error.strerror)) from None
            if following is None or not following[1].is_corrupt:
                return following
            frame = following[0]
            if not self._damaged_packets.pass_over(int(self.index.packets[frame]), painted=True):
                raise self._damaged(frame, "a broken picture")
            if frame == 0:
                return following

    def _arrive(self, goal: int) -> tuple[int, av.VideoFrame]:
        """The picture of the key frame that was jumped to."""
        try:
            first = next((one for one in self._pictures if one[0] >= goal), None)
        except av.FFmpegError:
            raise LostError from None
        if first is None or first[0] != goal or not first[1].key_frame or first[1].is_corrupt:
            raise LostError
        return first

    def _damaged(self, frame: int, what: str) -> DamagedVideoError:
        seconds = self.index.times[min(frame, len(self.index.times) - 1)]
        return DamagedVideoError(f"{self.path}: damaged video at {seconds:.1f} s ({what}); get it again")


def _framed(
    pictures: Iterator[tuple[int, av.VideoFrame]], index: VideoIndex
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Pictures with their frames instead of their packets."""
    bringing = iter(np.flatnonzero(index.packets >= 0).tolist())
    for packet, picture in pictures:
        if picture.pts is not None:  # tells it better where VP9 shows an earlier picture again
            packet = index.by_time.get(picture.pts, packet)
        frame = next(bringing, -1) if index.counted else int(index.frames[packet])
        if frame >= 0:
            yield frame, picture
