"""Any folder of videos as sources."""

import logging
from collections import Counter
from pathlib import Path, PurePosixPath

from datamodules.clips.splits import read_pairs
from datamodules.errors import UserError
from datamodules.files import require_folder
from datamodules.media.suffixes import VIDEO_SUFFIXES
from datamodules.preparation.sources import Source, file_stem, shown, videos_below

_log = logging.getLogger(__name__)


def folder_sources(raw: Path, identities: Path | None = None) -> list[Source]:
    """All videos below a folder, in the order of their paths.

    Who is seen: what ``identities`` says, else the first folder below ``raw`` that a video lies in, else (with a
    warning) every video is taken for another person. ``identities`` is a CSV file with the columns ``video`` (path below
    ``raw``) and ``identity``.

    Raises:
        UserError: No such folder, no videos in it, or a wrong CSV file.
    """
    raw = require_folder(raw, "raw videos")
    videos = sorted(videos_below(raw), key=lambda path: path.relative_to(raw).as_posix())
    if not videos:
        suffixes = ", ".join(VIDEO_SUFFIXES)
        raise UserError(f"{raw}: no videos in it ({suffixes}); give the folder of the raw videos")
    others = Counter(
        path.suffix.lower() or "without a suffix"
        for path in raw.rglob("*")
        if path.suffix.lower() not in VIDEO_SUFFIXES and path.is_file() and path != identities
    )
    if others:
        told = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        _log.info("%s: files that are passed over, not being videos by their names: %s", raw, told)
    unread = [
        shown(path.relative_to(raw))
        + (" (a folder)" if path.is_dir() else " (a broken link, or no regular file)")
        for path in sorted(raw.rglob("*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_file()
    ]
    if unread:
        _log.warning("%s: %d passed over that are no files: %s", raw, len(unread), ", ".join(unread[:5]))
    known = {} if identities is None else _read_identities(identities)
    stems = Counter(path.relative_to(raw).with_suffix("") for path in videos)
    sources, alone = [], 0
    for path in videos:
        inner = path.relative_to(raw)
        name = shown(inner)
        identity = known.get(name)
        if identity is None:
            identity = shown(Path(inner.parts[0])) if len(inner.parts) > 1 else shown(Path(inner.stem))
            alone += len(inner.parts) == 1
        twins = stems[inner.with_suffix("")] > 1  # videos that differ in their suffix alone
        stem = file_stem((inner if twins else inner.with_suffix("")).as_posix())
        sources.append(Source(stem, name, path, None, identity))
    if unknown := sorted(known.keys() - {source.name for source in sources}):
        raise UserError(f"{identities}: names {unknown[0]}, which is no video below {raw}; mend the list")
    if alone:
        told = "videos lie in no folder of a person and are in no list: each is taken for another person"
        _log.warning("%s: %d %s", raw, alone, told)
    return sources


def _read_identities(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, identity in read_pairs(path, "identities", "video", "identity"):
        video = PurePosixPath(name).as_posix()  # without ./ in front
        if found.setdefault(video, identity) != identity:
            raise UserError(f"{path}: {video} is both {found[video]} and {identity}; keep one line")
    if empty := [video for video, identity in found.items() if not identity]:
        raise UserError(f"{path}: says no identity for {empty[0]}")
    return found
