"""VoxCeleb1 and VoxCeleb2 in their official layouts as sources.

- Videos of utterances: ``ID/VIDEO/UTTERANCE.mp4``, below any folders (``dev/mp4``, ``test/mp4``). VoxCeleb2's sound
  lies apart, in the same place below ``aac`` in place of ``mp4``: ``ID/VIDEO/UTTERANCE.m4a``.
- Annotations (VoxCeleb1 publishes no videos): ``txt/ID/VIDEO/UTTERANCE.txt``, and downloaded originals as ``VIDEO.mp4``
  anywhere. After a header, a line for each frame at 25 fps: number, then x, y, width and height of the face's box, in
  pixels of a picture of 360 lines (VoxCeleb1) or as shares of the picture (VoxCeleb2).

The split for testing is official: speakers id10270 to id10309 of VoxCeleb1 (Nagrani et al., Interspeech 2017), and the 118 of
VoxCeleb2 (Chung et al., Interspeech 2018; the folder ``test``, ``vox2_meta.csv``).
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodules.batches import FPS
from datamodules.errors import UserError
from datamodules.files import require_folder
from datamodules.media.suffixes import VIDEO_SUFFIXES
from datamodules.preparation.download import sound_file, videos_by_name
from datamodules.preparation.sources import (
    DEVELOPMENT,
    Availability,
    FaceHint,
    Rejection,
    Source,
    Span,
    file_stem,
)

REFERENCE_HEIGHT = 360
"""Lines of the picture that VoxCeleb1's boxes lie in."""
_SPEAKER = re.compile(r"id\d{5}")
META_NAME = "vox2_meta.csv"
VOX1_TEST = frozenset(f"id{number}" for number in range(10270, 10310))
"""Speakers of VoxCeleb1's test."""


def read_utterance(path: Path) -> Span:
    """The clip of one of VoxCeleb's text files, with the median box of its face.

    Raises:
        UserError: It has no frames, or a line that is not of this form.
    """
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or not words[0].isdecimal():
            continue  # the header
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != 5 or not np.isfinite(numbers).all() or min(numbers[3:]) <= 0:
            told = f"not a line of frame, x, y, width, height: {line.strip()}"
            raise UserError(f"{path}: {told}; get the file again")
        rows.append(numbers)
    if not rows:
        raise UserError(f"{path}: no frames in it; get the file again")
    boxes, start = np.array(rows)[:, 1:], int(rows[0][0]) / FPS
    lines = None if boxes.max() <= 2.0 else REFERENCE_HEIGHT  # shares of the picture, or pixels
    x, y, width, height = np.median(boxes, axis=0).tolist()
    return Span(_stem(path), start, start + len(rows) / FPS, face=FaceHint(x, y, width, height, lines))


def _official_tests(raw: Path) -> Callable[[str, Path], str]:
    """Split, ``test`` or ``DEVELOPMENT``, of a speaker ``idNNNNN`` whose utterance lies at a path below ``raw``.

    ``vox2_meta.csv``, which names VoxCeleb2's, is looked for in ``raw`` and above it; its columns are separated by commas.
    """
    places = [folder / META_NAME for folder in (raw, *raw.resolve().parents[:2])]
    text = next((path.read_text(encoding="utf-8") for path in places if path.is_file()), "")
    rows = [[word.strip() for word in line.split(",")] for line in text.splitlines()]
    listed = {row[0]: row[-1] for row in rows if _SPEAKER.fullmatch(row[0])}

    def split(speaker: str, inner: Path) -> str:
        in_test = "test" in (*raw.resolve().parts[-2:], *inner.parts[:-3])
        if speaker in listed:
            in_test = listed[speaker] == "test"
        return "test" if speaker in VOX1_TEST or in_test else DEVELOPMENT

    return split


def voxceleb_sources(raw: Path) -> Availability:
    """All utterances below a folder, in the order of their paths.

    Raises:
        UserError: No such folder, or nothing in the official layouts in it.
    """
    raw = require_folder(raw, "VoxCeleb")
    split = _official_tests(raw)
    utterances = [path for path in sorted(raw.rglob("id*/*/*")) if _is_utterance(path)]
    videos = [path for path in utterances if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        found = Availability([_utterance(path, raw, split) for path in videos], [], [])
    else:
        found = _cut_by_annotations([path for path in utterances if path.suffix == ".txt"], raw, split)
    if not found.sources:
        raise UserError(
            f"{raw}: nothing like idNNNNN/VIDEO/UTTERANCE.mp4 in it, nor txt files with their originals; "
            "give the folder of VoxCeleb"
        )
    if not any(source.split == "test" for source in found.sources):
        found.notes.append(f"no speaker of the official tests is there, nor a folder 'test', nor {META_NAME}")
    return found


def _is_utterance(path: Path) -> bool:
    """Whether it is ``.../idNNNNN/VIDEO/UTTERANCE.*``."""
    return bool(_SPEAKER.fullmatch(path.parts[-3])) and path.is_file()


def _utterance(path: Path, raw: Path, split: Callable[[str, Path], str]) -> Source:
    speaker, inner = path.parts[-3], path.relative_to(raw)
    sound = None
    if "mp4" in inner.parts[:-3]:
        place = len(inner.parts) - 4 - inner.parts[:-3][::-1].index("mp4")
        apart = raw.joinpath(*inner.parts[:place], "aac", *inner.parts[place + 1 :]).with_suffix(".m4a")
        sound = apart if apart.is_file() else None
    return Source(_stem(path), inner.as_posix(), path, sound, speaker, split(speaker, inner))


def _stem(path: Path) -> str:
    return file_stem("/".join(path.with_suffix("").parts[-3:]))


def _cut_by_annotations(texts: list[Path], raw: Path, split: Callable[[str, Path], str]) -> Availability:
    originals = videos_by_name(raw)
    listed: dict[tuple[str, str], list[Path]] = {}
    for text in texts:
        listed.setdefault((text.parts[-3], text.parts[-2]), []).append(text)
    sources, missing = [], []
    for (speaker, video), files in listed.items():
        path = originals.get(video)
        if path is None:
            missing += [_stem(text) for text in files]
            continue
        name = path.relative_to(raw).as_posix()
        spans, rejected = [], []
        for text in files:
            try:
                spans.append(read_utterance(text))
            except UserError as error:
                told = str(error).replace(str(text), text.name)
                rejected.append(Rejection(name, "annotation not readable", told, clip=_stem(text)))
        stem, sound = file_stem(f"{speaker}/{video}"), sound_file(path)
        whose = split(speaker, files[0].relative_to(raw))
        sources.append(Source(stem, name, path, sound, speaker, whose, tuple(spans), tuple(rejected)))
    return Availability(sources, missing, [])
