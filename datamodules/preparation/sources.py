"""What is prepared: recorded videos, and which parts of them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath

from datamodules.clips.manifest import ID_ALPHABET
from datamodules.preparation.boxes import PixelBox

VIDEO_SUFFIXES = frozenset((".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))


DEVELOPMENT = "development"
"""Split of what a dataset keeps out of its test: training or validation, by a hash of the identity."""


@dataclass(frozen=True)
class FaceHint:
    """Where a dataset says that its speaker's face is, for clips with several.

    Attributes:
        x: left edge.
        y: upper edge.
        width: > 0.
        height: > 0.
        lines: height of the picture that these are pixels of; None: they are shares of the picture's sides.
    """

    x: float
    y: float
    width: float
    height: float
    lines: int | None

    def at(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Edges x0, y0, x1, y1 in pixels of a picture."""
        across, down = (width, height) if self.lines is None else (height / self.lines,) * 2
        return self.x * across, self.y * down, (self.x + self.width) * across, (self.y + self.height) * down


@dataclass(frozen=True)
class Span:
    """A part of a video that a dataset lists as a clip.

    Attributes:
        id: file stem of the clip.
        start: seconds from the first frame.
        end: seconds; None: the end of the video.
        crop: where the clip's picture was cut out, if it is listed.
        crop_height: height in pixels of the picture that ``crop`` lies in; None: that of the video.
        face: whose clip it is.
    """

    id: str
    start: float
    end: float | None
    crop: PixelBox | None = None
    crop_height: int | None = None
    face: FaceHint | None = None


@dataclass(frozen=True)
class Source:
    """One video to prepare.

    Attributes:
        id: file stem, of the clips' too; unique among the sources.
        name: what it is called in reports: its path below the raw folder.
        video: the file.
        sound: file with its sound where that lies apart.
        identity: who is seen.
        split: ``train``, ``val``, ``test`` or ``DEVELOPMENT`` where the dataset says so; None: by a hash of the identity.
        spans: the listed clips; empty: whatever is fit in the whole video.
        rejected: listed clips that are known to be unusable without looking.
    """

    id: str
    name: str
    video: Path
    sound: Path | None
    identity: str
    split: str | None = None
    spans: tuple[Span, ...] = ()
    rejected: tuple["Rejection", ...] = ()


@dataclass(frozen=True)
class Availability:
    """What there is of a dataset.

    Attributes:
        sources: the videos that are there, with their clips.
        missing: names of clips that are listed and whose videos are not there.
        notes: remarks for the report.
    """

    sources: list[Source]
    missing: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Rejection:
    """Something that was not kept.

    Attributes:
        source: name of the source.
        clip: file stem of the clip; None: the source as a whole.
        start: seconds where the rejected part starts.
        end: seconds where it ends; None: the end of the video, or not known.
        reason: a few words that are the same for all that were rejected for it.
        detail: what was found.
    """

    source: str
    clip: str | None
    start: float
    end: float | None
    reason: str
    detail: str


def shown(path: PurePath) -> str:
    """A path as text for reports: bytes that are no UTF-8, as on old disks, become question marks."""
    return path.as_posix().encode(errors="surrogateescape").decode(errors="replace")


def file_stem(name: str) -> str:
    """A name as a file stem: a slash becomes ``__``, what isn't a letter, digit, ``.``, ``_`` or ``-`` becomes ``_``.

    Where letters of other alphabets are lost that way, a hash of the name follows.
    """
    text = name.replace("\\", "/").replace("/", "__")
    plain = "".join(letter if letter in ID_ALPHABET else "_" for letter in text).strip(".") or "_"
    return (
        plain
        if text.isascii()
        else f"{plain}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
    )
