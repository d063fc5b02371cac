"""Which picture of a video is seen when, as its packets tell it; nothing is decoded here."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from datamodules.batches import FPS
from datamodules.errors import UserError
from datamodules.media.containers import (
    open_to_read,
    packets_of,
    picture_track,
    promised_seconds,
    require_whole,
)

MOST_SECONDS = 12 * 3600
"""Longest video: a damaged time stamp may claim centuries."""
_NO_TIMES = 0x80
"""FFmpeg's flag ``AVFMT_NOTIMESTAMPS`` of a format."""
_LEAST_CHUNK = 8
"""Bytes of an empty chunk of AVI: its name and its size."""
_STARTS = 4
"""Places to jump to that are told of each frame."""


def open_video(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a file, and its track of pictures, for decoding; UserError unless there is a video in it."""
    try:
        container = open_to_read(path)
    except av.FFmpegError as error:
        told = f"cannot be read as video ({error.strerror}); it may be cut off or no video: get it again"
        raise UserError(f"{path}: {told}") from None
    if container.format.name in ("tty", "image2") or container.format.name.endswith("_pipe"):
        container.close()
        raise UserError(f"{path}: is no video ({container.format.long_name}); give a video such as mp4")
    track = picture_track(container)
    if track is None:
        container.close()
        raise UserError(f"{path}: has no pictures, only sound; give a video")
    return container, track


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video in the order of presentation, and where their pictures are stored.

    A frame is what is seen from its time on. Most bring a picture; one that brings none repeats the one before it.
    Packets are numbered as they are stored.
    """

    times: np.ndarray  # (N,) seconds from the first frame, increasing
    duration: Fraction  # seconds to the end of the last one
    shown: np.ndarray  # (N,) frame whose picture is seen: the frame itself, or the one that it repeats
    packets: np.ndarray  # (N,) packet that holds the picture of each frame, -1 where it brings none
    frames: np.ndarray  # (P,) frame that each packet holds the picture of, -1 where it is not seen
    counted: bool  # packets don't tell whose picture they hold: the decoded pictures are counted
    keys: np.ndarray  # (K,) packets that decoding can start from, increasing
    jumps: list[int]  # ticks of the track that lead to them
    known: dict[tuple[int | None, int], int]  # pts and size of these packets -> their number
    by_time: dict[int, int]  # pts that one packet alone has -> its number

    def starts(self, frame: int) -> list[int]:
        """Places in ``keys`` from which decoding leads to the picture of a frame: the few before it, the latest first."""
        frame = self.shown[frame]
        after = int(np.searchsorted(self.keys, self.packets[frame], side="right"))
        places = range(after - 1, max(-1, after - 1 - _STARTS), -1)
        return [place for place in places if 0 <= self.frames[self.keys[place]] <= frame]


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    size: int
    duration: int
    key: bool
    hidden: bool  # by an edit list

    @classmethod
    def of(cls, packet: av.Packet) -> "_Packet":
        duration = packet.duration or 0
        return cls(packet.pts, packet.dts, packet.size, duration, packet.is_keyframe, packet.is_discard)


def index_video(path: Path, first: int) -> VideoIndex:
    """Index a video whose first picture comes from packet ``first``: what should be seen before it is left out.

    Raises:
        UserError: The file is damaged or cut off.
    """
    container, track = open_video(path)
    with container:
        try:
            packets = [_Packet.of(packet) for packet in packets_of(container, track)]
        except av.FFmpegError as error:
            raise UserError(f"{path}: damaged video ({error.strerror}); get it again") from None
        packets.pop()  # says that the file ends
        rate = track.average_rate or track.guessed_rate or Fraction(FPS)
        tick = track.time_base or Fraction(1, av.time_base)
        chunks = (
            container.format.name == "avi"
        )  # one a frame, as they are stored; the times of pictures are made up
        bare = not chunks and (container.format.flags & _NO_TIMES or packets[first].pts is None)
        if bare:
            rate = track.guessed_rate or rate
            tick = 1 / rate
        stamps = [n if bare else one.dts if chunks else one.pts for n, one in enumerate(packets)]
        start = stamps[first] or 0
        _require_one_clock(path, packets, tick)
        places, holders = _in_order(packets, stamps, start)
        length = 0 if bare else packets[holders[-1]].duration
        end = int(places[-1]) * tick + (length * tick or 1 / rate)
        require_whole(path, end, promised_seconds(container, track))
        if max(end, (track.frames - start) * tick if chunks else 0) > MOST_SECONDS:
            raise UserError(
                f"{path}: claims to last over {MOST_SECONDS // 3600} hours; get it again, or cut it"
            )
        if chunks:
            if max(int(places[-1]) + 1, track.frames - start) > path.stat().st_size // _LEAST_CHUNK:
                raise UserError(f"{path}: announces more pictures than its bytes can hold; get it again")
            places, holders = _with_empty_chunks(places, holders, track.frames - start)
            require_whole(path, end, len(places) * tick)
            end = len(places) * tick
    full = np.array([packet.size > 0 for packet in packets])
    holders = np.where((holders >= 0) & full[holders], holders, -1)
    own = np.flatnonzero(holders >= 0)
    frames = np.full(len(packets), -1)
    frames[holders[own]] = own
    counted = bool((chunks or bare) and track.codec_context.codec.reorder)
    often = Counter(one.pts for one in packets)
    keys = [] if bare or counted else [number for number, one in enumerate(packets) if one.key and one.size]
    return VideoIndex(
        times=places * float(tick),
        duration=end,
        shown=np.maximum.accumulate(np.where(holders >= 0, np.arange(len(holders)), 0)),
        packets=holders,
        frames=frames,
        counted=counted,
        keys=np.array(keys, int),
        jumps=[next(t for t in (packets[n].dts, packets[n].pts, 0) if t is not None) for n in keys],
        known={(packets[n].pts, packets[n].size): n for n in keys},
        by_time={one.pts: n for n, one in enumerate(packets) if one.pts is not None and often[one.pts] == 1},
    )


def _require_one_clock(path: Path, packets: list[_Packet], tick: Fraction) -> None:
    """Refuse recordings that were joined byte by byte: their clocks start again, and their pictures would be mixed."""
    clock = [packet.dts for packet in packets if packet.dts is not None]
    for before, after in pairwise(clock):
        if (before - after) * tick > 1:
            told = f"its clock goes back by {float((before - after) * tick):.1f} s, as of recordings that were joined"
            raise UserError(f"{path}: {told}; convert them one by one")


def _in_order(packets: list[_Packet], stamps: list[int | None], start: int) -> tuple[np.ndarray, np.ndarray]:
    """Ticks ``(N,)`` from ``start`` at which packets are seen, increasing, and their numbers ``(N,)``."""
    seen = sorted(
        (stamp - start, number)
        for number, (stamp, packet) in enumerate(zip(stamps, packets, strict=True))
        if stamp is not None and stamp >= start and not packet.hidden
    )
    places, holders = np.array(seen).T
    return places, holders


def _with_empty_chunks(places: np.ndarray, holders: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with a frame for each of ``count`` ticks at least, -1 for packets that FFmpeg leaves out."""
    filled = np.full(max(int(places[-1]) + 1, count), -1)
    filled[places] = holders
    return np.arange(len(filled)), filled
