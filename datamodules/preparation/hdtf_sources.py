"""HDTF's originals as sources, cut and cropped as its annotation files say."""

from pathlib import Path

from datamodules.clips.splits import find_splits, read_splits
from datamodules.files import require_folder
from datamodules.preparation.download import download_originals, sound_file, videos_by_name
from datamodules.preparation.hdtf_annotations import HDTFAnnotations, HDTFClip
from datamodules.preparation.hdtf_splits import NAME as FIXED_SPLITS
from datamodules.preparation.sources import Availability, Source, Span, file_stem


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
    notes = [f"{one.file}: {one.name} {one.problem}" for one in annotations.inconsistencies]
    return Availability(sources, missing, notes)


def download_missing(annotations: HDTFAnnotations, raw: Path) -> list[str]:
    """Download the originals that are not there; returns what could not be had, one line each, raises as the download."""
    there = videos_by_name(raw)
    urls = {clip.source: clip.url for clip in annotations.clips if clip.url and _long_name(clip) not in there}
    return [f"{name}: {reason}" for name, reason in download_originals(urls, raw).items()]


def _long_name(clip: HDTFClip) -> str:
    return file_stem(f"{clip.subset}_{clip.source}")
