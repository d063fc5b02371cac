"""HDTF's originals as sources, cut and cropped as its annotation files say."""

from pathlib import Path

from datamodules.clips.splits import find_splits, read_splits
from datamodules.errors import UserError
from datamodules.preparation.download import sound_beside, videos_by_name
from datamodules.preparation.hdtf_annotations import HDTFAnnotations, HDTFClip
from datamodules.preparation.hdtf_splits import NAME as FIXED_SPLITS
from datamodules.preparation.sources import Availability, Source, Span, file_stem


def hdtf_sources(annotations: HDTFAnnotations, raw: Path) -> Availability:
    """The originals below ``raw`` that the annotations list: ``NAME`` or ``SUBSET_NAME`` with any video suffix.

    Their split is that of the fixed list.

    Raises:
        UserError: no such folder.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; give the folder of HDTF's downloaded originals")
    files, splits = videos_by_name(raw), read_splits(find_splits(FIXED_SPLITS))
    clips: dict[str, list[HDTFClip]] = {}
    for clip in annotations.clips:
        clips.setdefault(clip.source, []).append(clip)
    sources, missing = [], []
    for name, listed in clips.items():
        path = files.get(file_stem(name)) or files.get(file_stem(f"{listed[0].subset}_{name}"))
        if path is None:
            missing += [clip.name for clip in listed]
            continue
        spans = [Span(file_stem(clip.name), clip.start, clip.end, clip.crop, clip.height) for clip in listed]
        relative, stem = path.relative_to(raw).as_posix(), file_stem(f"{name}_original")
        speaker = listed[0].speaker
        split = splits.get(speaker)
        sources.append(Source(stem, relative, path, sound_beside(path), speaker, split, tuple(spans)))
    notes = [f"{one.file}: {one.name} {one.problem}" for one in annotations.inconsistencies]
    return Availability(sources, missing, notes)
