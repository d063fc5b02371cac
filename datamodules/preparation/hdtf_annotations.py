"""The published annotation files of HDTF (Zhang et al., CVPR 2021): sources, times and crops of its clips.

Three subsets (RD radio, WDA and WRA weekly addresses), four text files each that are read, one source or clip a line:

- ``*_video_url.txt``: source, URL
- ``*_resolution.txt``: source, height in pixels of the version that the authors cropped
- ``*_annotion_time.txt``: source, then ``mm:ss-mm:ss`` for each clip; clip k is called ``source_k``
- ``*_crop_wh.txt``: clip, left edge, width, upper edge, height of its crop in that version

A fifth, ``*_crop_ratio.txt``, is for those who find the face themselves, in a way of their own.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from datamodules.errors import UserError
from datamodules.files import require_file
from datamodules.preparation.sources import PixelBox

SUBSETS = ("RD", "WDA", "WRA")
FILES = ("video_url", "resolution", "annotion_time", "crop_wh")
"""What follows the subset in the names of its files; the spelling is theirs."""

SAME_SPEAKER = {"WhipJimClyburn": "JamesClyburn"}
"""Names of one person that differ in more than a number: their sources share an address."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class HDTFClip:
    """One clip as it was published: seconds ``start`` to ``end`` of the video ``source``, and where the face is in it.

    ``id`` is ``source_k``, ``height`` that of the picture that ``crop`` lies in, in pixels; None is what isn't listed.
    """

    id: str
    subset: str
    source: str
    url: str | None
    start: float
    end: float
    height: int | None
    crop: PixelBox | None

    @property
    def name(self) -> str:
        """As the cut clips are called where they are exchanged, and in lists of splits: ``SUBSET_SOURCE_KKK``."""
        source, number = self.id.rsplit("_", 1)
        return f"{self.subset}_{source}_{int(number):03d}"

    @property
    def speaker(self) -> str:
        """Who speaks: sources of one person differ by a number at their end; every radio source is taken for a person."""
        name = self.source if self.subset == "RD" else self.source.rstrip("0123456789")
        return SAME_SPEAKER.get(name, name)


@dataclass(frozen=True)
class Inconsistency:
    """Something in the files that doesn't fit: name of the file, source or clip, and the problem in a few words."""

    file: str
    name: str
    problem: str


@dataclass(frozen=True)
class HDTFAnnotations:
    """All clips with times, in the order of the files, and what could not be used, or lacks its counterpart."""

    clips: list[HDTFClip]
    inconsistencies: list[Inconsistency]


def read_hdtf_annotations(folder: str | Path) -> HDTFAnnotations:
    """Read the files; of a subset all four have to be there, and one subset at least, else UserError.

    Lines that cannot be read are listed as inconsistencies and left out.
    """
    folder = Path(folder)
    subsets = [one for one in SUBSETS if any((folder / f"{one}_{name}.txt").is_file() for name in FILES)]
    if not subsets:
        told = f"holds none of HDTF's annotation files (such as RD_{FILES[0]}.txt)"
        raise UserError(f"{folder}: {told}; give the folder HDTF_dataset of its repository")
    found: list[Inconsistency] = []
    clips = [clip for subset in subsets for clip in _read_subset(folder, subset, found)]
    return HDTFAnnotations(clips, found)


class _Table(dict[str, Value], Generic[Value]):
    """One file: name -> value; remembers how the file is called."""

    def __init__(self, path: Path, parse: Callable[[list[str]], Value], found: list[Inconsistency]) -> None:
        super().__init__()
        self.file = path.name
        text = require_file(path, "annotations").read_text(encoding="utf-8-sig", errors="replace")
        for name, *words in filter(None, map(str.split, text.splitlines())):
            name = name.removesuffix(".mp4")
            try:
                value = parse(words)
            except ValueError as error:
                found.append(Inconsistency(self.file, name, str(error)))
                continue
            if name in self:
                again = "listed twice" if self[name] == value else "listed twice, with different values"
                found.append(Inconsistency(self.file, name, again))
            self.setdefault(name, value)


def _read_subset(folder: Path, subset: str, found: list[Inconsistency]) -> Iterator[HDTFClip]:
    urls = _Table(folder / f"{subset}_video_url.txt", _url, found)
    heights = _Table(folder / f"{subset}_resolution.txt", _height, found)
    times = _Table(folder / f"{subset}_annotion_time.txt", _times, found)
    crops = _Table(folder / f"{subset}_crop_wh.txt", _box, found)
    timed = {f"{source}_{number}": None for source, spans in times.items() for number in range(len(spans))}
    tables: tuple[tuple[_Table, Mapping, str], ...] = (
        (urls, times, "address"), (heights, times, "resolution"), (crops, dict(sorted(timed.items())), "crop"),
    )  # fmt: skip
    for table, wanted, name in tables:
        found += [Inconsistency(times.file, one, f"has no {name}") for one in wanted if one not in table]
        found += [Inconsistency(table.file, one, "has no times") for one in table if one not in wanted]
    for source, spans in times.items():
        for number, (start, end) in enumerate(spans):
            clip = f"{source}_{number}"
            height = heights.get(source)
            crop = crops.get(clip)
            if crop and height and crop.y + crop.height > height:
                found.append(Inconsistency(crops.file, clip, f"crop reaches below the {height} lines"))
            yield HDTFClip(clip, subset, source, urls.get(source), start, end, height, crop)


def _url(words: list[str]) -> str:
    if len(words) != 1 or not re.match(r"https?://", words[0]):
        raise ValueError(f"not an address: {' '.join(words) or 'nothing'}")
    return words[0]


def _height(words: list[str]) -> int:
    if len(words) != 1 or not words[0].isdecimal() or int(words[0]) < 1:
        raise ValueError(f"not a height in pixels: {' '.join(words) or 'nothing'}")
    return int(words[0])


def _times(words: list[str]) -> list[tuple[float, float]]:
    spans = []
    for word in words:
        match = re.fullmatch(r"(\d+):(\d\d)-(\d+):(\d\d)", word)
        if match is None:
            raise ValueError(f"not a span of time: {word}")
        minutes, seconds, to_minutes, to_seconds = map(int, match.groups())
        start, end = 60.0 * minutes + seconds, 60.0 * to_minutes + to_seconds
        if end <= start:
            raise ValueError(f"ends before it starts: {word}")
        spans.append((start, end))
    if not spans:
        raise ValueError("no times")
    return spans


def _box(words: list[str]) -> PixelBox:
    if len(words) != 4 or not all(word.isdecimal() for word in words):
        raise ValueError(f"not a crop: {' '.join(words) or 'nothing'}")
    x, width, y, height = map(int, words)
    if width < 1 or height < 1:
        raise ValueError(f"an empty crop: {' '.join(words)}")
    return PixelBox(x, y, width, height)
