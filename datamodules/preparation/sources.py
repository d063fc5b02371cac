"""What is prepared: recorded videos, and which parts of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from datamodules.clips.manifest import ID_ALPHABET
from datamodules.media.suffixes import VIDEO_SUFFIXES

DEVELOPMENT = "development"
"""Split of what a dataset keeps out of its test: training or validation, by a hash of the identity."""


@dataclass(frozen=True)
class PixelBox:
    """A box in whole pixels: left and upper edge, and sides > 0."""

    x: int
    y: int
    width: int
    height: int

    def scaled(self, factor: float) -> "PixelBox":
        """The same part of a picture whose sides are ``factor`` times as long, each edge to the nearest pixel."""
        left, top = round(self.x * factor), round(self.y * factor)
        right, bottom = round((self.x + self.width) * factor), round((self.y + self.height) * factor)
        return PixelBox(left, top, right - left, bottom - top)


@dataclass(frozen=True)
class FaceHint:
    """Where a dataset says that its speaker's face is, for clips with several: left and upper edge, and sides > 0.

    ``lines`` is the height of the picture that these are pixels of; None: they are shares of the picture's sides.
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
    """A part of a video that a dataset lists as a clip, whose file stem is ``id``: from ``start`` to ``end`` in seconds.

    Without ``end`` it goes on to the end of the video. ``crop`` is where its picture was cut out, in a picture of
    ``crop_height`` pixels (None: that of the video); ``face`` tells whose clip it is.
    """

    id: str
    start: float
    end: float | None
    crop: PixelBox | None = None
    crop_height: int | None = None
    face: FaceHint | None = None


@dataclass(frozen=True)
class Rejection:
    """A source, or its clip with that file stem, that was not kept from ``start`` to ``end`` (None: not known) in seconds.

    ``reason`` are a few words that are the same for all that were rejected for it; ``detail`` is what was found.
    """

    source: str
    clip: str | None = field(default=None, kw_only=True)
    start: float = field(default=0.0, kw_only=True)
    end: float | None = field(default=None, kw_only=True)
    reason: str
    detail: str


@dataclass(frozen=True)
class Source:
    """One video to prepare.

    Attributes:
        id: File stem, of the clips' too; unique among the sources.
        name: What it is called in reports: its path below the raw folder.
        video: The file.
        sound: File with its sound where that lies apart.
        identity: Who is seen.
        split: ``train``, ``val``, ``test`` or ``DEVELOPMENT`` where the dataset says so; None: by a hash of the identity.
        spans: The listed clips; empty: whatever is fit in the whole video.
        rejected: Listed clips that are known to be unusable without looking.
    """

    id: str
    name: str
    video: Path
    sound: Path | None
    identity: str
    split: str | None = None
    spans: tuple[Span, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @property
    def names(self) -> set[str]:
        """File stems that its clips begin with."""
        return {self.id, *(span.id for span in self.spans)}


@dataclass(frozen=True)
class Availability:
    """What there is of a dataset: videos, names of listed clips whose videos are not there, remarks for the report."""

    sources: list[Source]
    missing: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Shard:
    """One of several runs that share a list of sources: ``index`` from 0, of ``count``."""

    index: int = 0
    count: int = 1

    def of(self, sources: Sequence[Source]) -> list[Source]:
        """The sources of this run; by a hash of their ids, so that it doesn't matter who else is listed."""
        digests = [hashlib.sha256(source.id.encode()).digest()[:8] for source in sources]
        places = [int.from_bytes(digest, "big") % self.count for digest in digests]
        return [source for source, place in zip(sources, places, strict=True) if place == self.index]

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.index + 1} of {self.count}"


WHOLE = Shard()
"""The only run: all sources."""


def videos_below(raw: Path) -> list[Path]:
    """All videos below a folder, in the order of their paths."""
    return sorted(path for path in raw.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def shown(path: PurePath) -> str:
    """A path as text for reports: bytes that are no UTF-8, as on old disks, become question marks."""
    return path.as_posix().encode(errors="surrogateescape").decode(errors="replace")


def file_stem(name: str) -> str:
    """A name as a file stem: a slash becomes ``__``, what isn't a letter, digit, ``.``, ``_`` or ``-`` becomes ``_``.

    Where letters of other alphabets are lost that way, a hash of the name follows.
    """
    text = name.replace("\\", "/").replace("/", "__")
    plain = "".join(letter if letter in ID_ALPHABET else "_" for letter in text).strip(".") or "_"
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    return plain if text.isascii() else f"{plain}-{digest}"
