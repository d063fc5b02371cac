"""HDTF (Zhang et al., CVPR 2021): its published annotation files, its originals as sources, and its fixed splits.

Three subsets (RD radio, WDA and WRA weekly addresses), four text files each that are read, one source or clip a line:

- ``*_video_url.txt``: source, URL
- ``*_resolution.txt``: source, height in pixels of the version that the authors cropped
- ``*_annotion_time.txt``: source, then ``mm:ss-mm:ss`` for each clip; clip k is called ``source_k``
- ``*_crop_wh.txt``: clip, left edge, width, upper edge, height of its crop in that version

A fifth, ``*_crop_ratio.txt``, is for those who find the face themselves, in a way of their own.

HDTF publishes no splits: those of ``datamodules/splits/hdtf-test-v1.csv``, which lists every published clip with its speaker,
are this project's. No speaker is in two splits. How the file was made, once and for all::

    python -m datamodules.preparation.hdtf HDTF_dataset datamodules/splits/hdtf-test-v1.csv
"""

import csv
import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datamodules.clips.splits import find_splits, read_splits
from datamodules.errors import UserError
from datamodules.files import require_file, require_folder, whole_output
from datamodules.preparation.download import download_originals, sound_file, videos_by_name
from datamodules.preparation.sources import Availability, PixelBox, Source, Span, file_stem

SUBSETS = ("RD", "WDA", "WRA")
FILES = ("video_url", "resolution", "annotion_time", "crop_wh")
"""What follows the subset in the names of its files; the spelling is theirs."""

SAME_SPEAKER = {"WhipJimClyburn": "JamesClyburn"}
"""Names of one person that differ in more than a number: their sources share an address."""

FIXED_SPLITS = "hdtf-test-v1"
TEST_SHARE, VAL_SHARE = 0.12, 0.08
"""Of the speakers of each subset."""

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
class HDTFAnnotations:
    """All clips with times, in the order of the files, and in ``problems`` what could not be used or lacks its counterpart.

    A problem is a line such as ``WDA_crop_wh.txt: Ann_0 has no times``.
    """

    clips: list[HDTFClip]
    problems: list[str]


def read_hdtf_annotations(folder: str | Path) -> HDTFAnnotations:
    """Read the files; of a subset all four have to be there, and one subset at least, else UserError.

    Lines that cannot be read are listed as problems and left out.
    """
    folder = Path(folder)
    subsets = [one for one in SUBSETS if any((folder / f"{one}_{name}.txt").is_file() for name in FILES)]
    if not subsets:
        told = f"holds none of HDTF's annotation files (such as RD_{FILES[0]}.txt)"
        raise UserError(f"{folder}: {told}; give the folder HDTF_dataset of its repository")
    problems: list[str] = []
    clips = [clip for subset in subsets for clip in _read_subset(folder, subset, problems)]
    return HDTFAnnotations(clips, problems)


def _read_table(path: Path, parse: Callable[[list[str]], Value], problems: list[str]) -> dict[str, Value]:
    """One file: name -> value."""
    table: dict[str, Value] = {}
    text = require_file(path, "annotations").read_text(encoding="utf-8-sig", errors="replace")
    for name, *words in filter(None, map(str.split, text.splitlines())):
        name = name.removesuffix(".mp4")
        try:
            value = parse(words)
        except ValueError as error:
            problems.append(f"{path.name}: {name} {error}")
            continue
        if name in table:
            again = "listed twice" if table[name] == value else "listed twice, with different values"
            problems.append(f"{path.name}: {name} {again}")
        table.setdefault(name, value)
    return table


def _read_subset(folder: Path, subset: str, problems: list[str]) -> Iterator[HDTFClip]:
    url_file, height_file, time_file, crop_file = (folder / f"{subset}_{name}.txt" for name in FILES)
    urls = _read_table(url_file, _url, problems)
    heights = _read_table(height_file, _height, problems)
    times = _read_table(time_file, _times, problems)
    crops = _read_table(crop_file, _box, problems)
    timed = sorted(f"{source}_{number}" for source, spans in times.items() for number in range(len(spans)))
    tables: tuple[tuple[Path, dict, Collection[str], str], ...] = (
        (url_file, urls, times, "address"), (height_file, heights, times, "resolution"), (crop_file, crops, timed, "crop"),
    )  # fmt: skip
    for file, table, wanted, name in tables:
        problems += [f"{time_file.name}: {one} has no {name}" for one in wanted if one not in table]
        problems += [f"{file.name}: {one} has no times" for one in table if one not in wanted]
    for source, spans in times.items():
        for number, (start, end) in enumerate(spans):
            clip, height = f"{source}_{number}", heights.get(source)
            crop = crops.get(clip)
            if crop and height and crop.y + crop.height > height:
                problems.append(f"{crop_file.name}: {clip} crop reaches below the {height} lines")
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


def hdtf_sources(annotations: HDTFAnnotations, raw: Path) -> Availability:
    """The originals below ``raw`` that the annotations list: ``NAME`` or ``SUBSET_NAME`` with any video suffix.

    Their split is that of the fixed list. UserError where there is no such folder.
    """
    files = videos_by_name(require_folder(raw, "HDTF's downloaded originals"))
    splits = read_splits(find_splits(FIXED_SPLITS))
    clips: dict[str, list[HDTFClip]] = {}
    for clip in annotations.clips:
        clips.setdefault(clip.source, []).append(clip)
    sources, missing = [], []
    for name, listed in clips.items():
        path = files.get(file_stem(name)) or files.get(_long_name(listed[0]))
        if path is None:
            missing += [clip.name for clip in listed]
            continue
        spans = [Span(file_stem(clip.name), clip.start, clip.end, clip.crop, clip.height) for clip in listed]
        relative, stem = path.relative_to(raw).as_posix(), file_stem(f"{name}_original")
        speaker, sound = listed[0].speaker, sound_file(path)
        sources.append(Source(stem, relative, path, sound, speaker, splits.get(speaker), tuple(spans)))
    return Availability(sources, missing, list(annotations.problems))


def download_missing(annotations: HDTFAnnotations, raw: Path) -> list[str]:
    """Download the originals that are not there; returns what could not be had, one line each, raises as the download."""
    there = videos_by_name(raw)
    urls = {clip.source: clip.url for clip in annotations.clips if clip.url and _long_name(clip) not in there}
    return [f"{name}: {reason}" for name, reason in download_originals(urls, raw).items()]


def _long_name(clip: HDTFClip) -> str:
    return file_stem(f"{clip.subset}_{clip.source}")


def fixed_splits(annotations: HDTFAnnotations) -> list[tuple[str, str, str]]:
    """Clip, identity and split of every published clip, sorted by the clip's name.

    Speakers of each subset stand in the order of a hash of their name; the first are test, the next val, the others train.
    """
    splits: dict[str, str] = {}
    for subset in SUBSETS:
        speakers = {clip.speaker for clip in annotations.clips if clip.subset == subset} - splits.keys()
        ordered = sorted(
            speakers, key=lambda name: hashlib.sha256(f"{FIXED_SPLITS}/{name}".encode()).digest()
        )
        test = round(TEST_SHARE * len(ordered))
        val = test + round(VAL_SHARE * len(ordered))
        for place, speaker in enumerate(ordered):
            splits[speaker] = "test" if place < test else "val" if place < val else "train"
    return sorted((clip.name, clip.speaker, splits[clip.speaker]) for clip in annotations.clips)


if __name__ == "__main__":
    published = read_hdtf_annotations(Path(sys.argv[1]))
    with whole_output(sys.argv[2]) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("clip", "identity", "split"))
        writer.writerows(fixed_splits(published))
