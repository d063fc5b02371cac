"""Files with pictures and sound: which of their tracks count, and whether they are whole."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, cast

import av

from datamodules.errors import UserError

STRICT_DECODING = {"err_detect": "crccheck+bitstream+buffer+explode"}
"""Options of FFmpeg's decoders with which damaged data is an error."""
MOST_LOST = Fraction(1, 4)
"""Seconds that may lack at the end."""
_PLAIN_SOUND = ("wav", "aiff", "au", "flac")
_STREAMED = 0x7FFFF000
"""Bytes of sound that programs announce, or more, where they can't know how many will come."""

_Track = TypeVar("_Track", bound=av.stream.Stream)


def open_to_read(path: Path) -> av.container.InputContainer:
    """Open a file of sound or pictures; its name may hold a colon, its tags may be in Latin-1."""
    return av.open(f"file:{path}", metadata_errors="ignore")


def default_track(tracks: Sequence[_Track]) -> _Track | None:
    """The first track that the file marks as the one to play, else the first; of those whose codec is known."""
    tracks = [track for track in tracks if track.codec_context is not None]
    marked = (track for track in tracks if track.disposition & av.stream.Disposition.default)
    return next(marked, tracks[0] if tracks else None)


def picture_track(container: av.container.InputContainer) -> av.VideoStream | None:
    """The track of moving pictures that players show; None where there is a cover picture at best."""
    cover = av.stream.Disposition.attached_pic
    return default_track([track for track in container.streams.video if not track.disposition & cover])


def packets_of(container: av.container.InputContainer, track: _Track) -> "Iterator[av.Packet[_Track]]":
    """The packets of a track as they are stored; FFmpegError at damage, such as a track that comes from nowhere."""
    try:
        yield from cast("Iterator[av.Packet[_Track]]", container.demux(track))
    except IndexError:  # PyAV knows the tracks that the head of the file names
        raise av.FFmpegError(0, "a track begins inside") from None


def promised_seconds(container: av.container.InputContainer, track: av.stream.Stream) -> Fraction | None:
    """Length of a track as the index of an mp4 or mov file has it; None for other files, which only guess."""
    if "mp4" not in container.format.name or track.duration is None or track.time_base is None:
        return None
    return track.duration * track.time_base


def announced_seconds(
    container: av.container.InputContainer, track: av.stream.Stream, path: Path
) -> Fraction | None:
    """Length of a track as the header of a file of plain sound has it; None of other files, and where it was not known."""
    announced = _announced_by_wav(path) if container.format.name == "wav" else None
    if announced is None and container.format.name in _PLAIN_SOUND and track.duration and track.time_base:
        announced = track.duration * track.time_base
    return announced


def _announced_by_wav(path: Path) -> Fraction | None:
    """FFmpeg takes the size of the file where the header says more."""
    with path.open("rb") as file:
        file.seek(12)
        rate = 0
        while len(head := file.read(8)) == 8:
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":
                return Fraction(size, rate) if rate and 0 < size < _STREAMED else None
            if name == b"fmt ":
                rate = int.from_bytes(file.read(12)[8:], "little")  # bytes a second
                size -= 12
            file.seek(size + size % 2, 1)
    return None


def require_whole(path: Path, end: Fraction, promised: Fraction | None) -> None:
    """UserError for a track that ends, at ``end`` seconds, 0.25 s before what the file promises."""
    if promised is not None and end < promised - MOST_LOST:
        told = f"cut off after {float(end):.1f} of {float(promised):.1f} s; get the file again"
        raise UserError(f"{path}: {told}")
