"""Clips without a real video: a method's videos beside the portraits and the speech that they were made from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from datamodules.errors import UserError
from datamodules.faces.framing import SquareCrop
from datamodules.files import require_folder
from datamodules.media.audio import frame_count, load_audio
from datamodules.media.pictures import read_image
from datamodules.media.suffixes import IMAGE_SUFFIXES, SOUND_SUFFIXES
from datamodules.media.video import VideoReader
from metrics.evaluation.clips import (
    CLIP_FAILURES,
    ClipFiles,
    ClipSet,
    Missing,
    composed,
    entry,
    list_videos,
    with_speakers,
)
from metrics.evaluation.judges import Judges
from metrics.evaluation.loading import RenderedClip, damage_in, find_crop, read_fitted, speech_of
from metrics.evaluation.protocol_names import PARTNER, ReadingSettings

NO_SPEAKERS = (
    "no real videos of other people to fit the regression from speech to lips on; give --speakers DIR"
)


def source_clips(folder: Path) -> dict[str, ClipFiles]:
    """Portraits and speech by their stem, without takes; a subfolder names the identity, else the stem does.

    A portrait without speech has itself in the place of it: `match_sources` puts the video there.

    Raises:
        UserError: No such folder, no portrait in it, or a stem that two portraits or two sounds have.
    """
    found: dict[str, dict[str, Path]] = {"portrait": {}, "speech": {}}
    for path in sorted(require_folder(folder, "portraits and speech").rglob("*")):
        suffix = path.suffix.lower()
        kind = "portrait" if suffix in IMAGE_SUFFIXES else "speech" if suffix in SOUND_SUFFIXES else ""
        if not kind or not path.is_file() or path.name.startswith("."):
            continue
        stem = composed(path.stem)
        if stem in found[kind]:
            raise UserError(f"{path}: {found[kind][stem]} has the same stem; rename one of them")
        found[kind][stem] = path
    if not found["portrait"]:
        raise UserError(f"{folder}: holds no portraits; give a folder with {', '.join(IMAGE_SUFFIXES)} files")
    clips = {}
    for stem, path in found["portrait"].items():
        who = stem if path.parent == folder else composed(path.parent.relative_to(folder).parts[0])
        clips[stem] = ClipFiles(stem, path, found["speech"].get(stem, path), (), who, who, source=stem)
    return clips


def match_sources(videos: Path, sources: Path, speakers: Path | None = None) -> tuple[ClipSet, list[Missing]]:
    """Match a method's videos with portraits and speech by stem.

    Args:
        videos: Folder of videos.
        sources: Folder of portraits and speech, see `source_clips`.
        speakers: Folder of real videos, see `reference_clips`, that the regression from speech to lips is fitted on.

    Returns:
        The clips in the order of their names, those of the speakers to spare; and what has no partner.

    Raises:
        UserError: A folder is missing or empty, or not one stem matches.
    """
    clips, takes = source_clips(sources), list_videos(videos, "videos")
    missing = [
        entry(stem, PARTNER, f"no portrait of this stem in {sources}") for stem in takes if stem not in clips
    ]
    matched = []
    for name, clip in sorted(clips.items()):
        if name not in takes:
            missing.append(entry(name, PARTNER, f"no video of this stem in {videos}"))
            continue
        speech = takes[name] if clip.speech == clip.reference else clip.speech
        matched.append(replace(_measured(clip), takes=(takes[name],), speech=speech))
    if not matched:
        raise UserError(
            f"{videos}: no video has the stem of a portrait in {sources}; {missing[0]['clip']}: {missing[0]['why']}"
        )
    return with_speakers(ClipSet(tuple(matched)), speakers), missing


def _measured(clip: ClipFiles) -> ClipFiles:
    """The clip with the length of its speech and the size of its portrait, which are part of the data's identity."""
    try:
        height, width = read_image(clip.reference).shape[:2]
        frames = 1 if clip.speech == clip.reference else frame_count(len(load_audio(clip.speech)))
    except CLIP_FAILURES:  # told when it is judged
        return clip
    return replace(clip, frames=frames, size=(width, height))


def add_regression(judges: Judges, data: ClipSet) -> None:
    """Name what the lips are expected by among the judges: by the bytes of the speakers' files, else as absent."""
    if data.spare:
        name = "regression from speech to lips"
        judges.names["regression"] = name
        judges.hashes["regression"] = ClipSet((), data.spare).files_hash("reference", "speech")
    else:
        judges.absent["regression"] = NO_SPEAKERS


def _portrait(path: Path) -> SimpleNamespace:
    """A picture as a video of one frame."""
    frames = read_image(path)[None]
    info = SimpleNamespace(height=frames.shape[1], width=frames.shape[2])
    return SimpleNamespace(path=path, info=info, get=lambda indices: frames[indices])


def load_with_portrait(
    files: ClipFiles, reading: ReadingSettings, find: Callable[[np.ndarray], SquareCrop] = find_crop
) -> RenderedClip:
    """Read a method's video; the portrait, at its own shape, stands in the place of the real frames.

    What is heard is the video's own sound track, put on the clock of its pictures; the given speech only where it has none.

    Raises:
        UserError: A file is missing or damaged.
        ValueError: The video is much shorter or longer than the given speech, too short to be judged, or no face can be
            cropped to.
    """
    reader, (path,) = VideoReader(files.takes[0]), files.takes
    indices, most = reader.at_rate(), reading.most_length_difference
    speech, wanted = files.speech, files.frames or 1
    if speech != path and abs(len(indices) - wanted) > most:
        raise ValueError(
            f"{path} has {len(indices)} frames at 25 fps, its speech lasts {wanted}; they may differ by {most}: give a "
            "video of the whole speech"
        )
    length = min(len(indices), reading.max_frames or len(indices), len(indices) if speech == path else wanted)
    if length < reading.shortest:
        raise ValueError(f"only {length} frames: too short to judge, which takes {reading.shortest}")
    portrait = read_fitted(_portrait(files.reference), np.arange(1), reading, find)
    made = read_fitted(reader, indices[:length], reading, find)
    sound, silence = speech_of(path if reader.info.has_audio else speech, length, most)
    whole = np.broadcast_to(portrait, (length, *portrait.shape[1:]))
    size = f"{reader.info.width}x{reader.info.height}"
    resized = "" if made.shape[1:3] == (reader.info.height, reader.info.width) else size
    resized = f"{size} to {made.shape[2]}x{made.shape[1]}" if resized and reading.crop == "as given" else ""
    damage = damage_in(files.name, reader)
    return RenderedClip(files, whole, {"generated": (made,)}, sound, silence, resized, missing=damage)
