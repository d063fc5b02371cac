"""Which clips are judged: real ones, the videos made for them, the speech of others; and the identity of these data."""

import hashlib
import json
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.clips.dataset_folder import read_dataset_settings
from datamodules.clips.manifest import MANIFEST_NAME, ClipRecord, file_sha256, read_manifest, without_twins
from datamodules.clips.phones import Phone, phone_file, read_phones
from datamodules.clips.splits import require_disjoint
from datamodules.errors import UserError
from datamodules.files import require_folder
from datamodules.media.audio import load_audio
from datamodules.media.suffixes import VIDEO_SUFFIXES
from datamodules.media.video import probe
from metrics.evaluation.protocol_names import PARTNER, ReadingSettings, short_hash

log = logging.getLogger(__name__)
CLIP_FAILURES = (UserError, OSError, ValueError, MemoryError)
"""What a broken or unfit clip can raise: it is listed as missing and the others are still judged."""
NO_PHONES = (
    "no phone times; align the speech (Montreal Forced Aligner) and put STEM.TextGrid beside the real video"
)
Missing = dict[str, str]
"""What could not be judged: ``clip`` (``*``: all), ``what`` and ``why``."""


def entry(clip: str, what: str, why: str) -> Missing:
    """An entry of what is missing."""
    return {"clip": clip, "what": what, "why": " ".join(why.split())}


def by_reason(clip: str, whys: Mapping[str, str], before: str = "") -> list[Missing]:
    """One entry for each reason why something is missing, with the names of all that is, behind ``before``."""
    return [
        entry(clip, before + ", ".join(name for name in whys if whys[name] == why), why)
        for why in dict.fromkeys(whys.values())
    ]


class ForeignSpeech(NamedTuple):
    """Speech of another voice, ``(640 T,)`` float in [-1, 1]."""

    voice: str
    waveform: np.ndarray


@dataclass(frozen=True)
class ClipFiles:
    """A real clip and the videos a method made for it."""

    name: str  # file stem
    reference: Path  # the real video
    speech: Path  # where the clip's speech is read from
    takes: tuple[Path, ...]  # the method's videos, one for each sampling seed
    identity: str  # who is seen
    voice: str  # who is heard
    source: str = ""  # what the clip was cut from
    start: float = 0.0  # place of its first frame there, in seconds
    crop: tuple[float, ...] | None = None  # x0, y0, x1, y1 of its crop there; None: not known
    frames: int | None = None  # its length at 25 fps; None: told by the file
    size: tuple[int, int] | None = None  # width and height of its frames in pixels; None: told by the file
    split: str = ""  # of the dataset; empty without one
    phones: Path | None = None  # file with the times of its speech sounds; None where there is none
    # file with what is known of its frames, likewise: truth of drawn clips, measurements of others
    annotations: Path | None = None
    drawn: bool = False  # whether it is known to show a synthetic head
    made: str = ""  # hash of the settings and version that it was drawn by; empty where they are not known

    def probed(self) -> tuple[int, tuple[int, int]]:
        """Frames at 25 fps of the real clip, its width and height, without decoding it; 0 where it can't be read."""
        try:
            found = probe(self.reference)
        except CLIP_FAILURES:
            return 0, (0, 0)
        return max(1, round(found.duration * FPS)), (found.width, found.height)

    def known_phones(self) -> tuple[list[Phone], str]:
        """The phones, and why there are none, empty if there are."""
        if self.phones is None:
            return [], NO_PHONES
        try:
            found = read_phones(self.phones)
        except UserError as error:
            return [], str(error)
        return found, "" if found else NO_PHONES


@dataclass(frozen=True)
class ClipSet:
    """The data of an evaluation."""

    judged: tuple[ClipFiles, ...]  # the clips that are to be judged, in the order of their names
    # real clips without a video that judges are fitted on and foreign speech is taken from, too
    spare: tuple[ClipFiles, ...] = ()

    @property
    def all(self) -> tuple[ClipFiles, ...]:
        """The judged clips, then the spare ones."""
        return self.judged + self.spare

    def identity(self, reading: ReadingSettings) -> str:
        """Hash of what is judged, whatever bytes it is stored in: 16 hexadecimal digits."""
        keys = ("name", "source", "start", "crop", "identity", "voice", "split", "made")

        def told(clip: ClipFiles) -> dict[str, object]:
            frames, size = (0, (0, 0)) if clip.frames and clip.size else clip.probed()
            known = {key: getattr(clip, key) for key in keys}
            return {**known, "frames": clip.frames or frames, "size": clip.size or size}

        sides = {"judged": [told(clip) for clip in self.judged], "spare": [told(clip) for clip in self.spare]}
        return short_hash({"reading": asdict(reading), **sides})

    def files_hash(self, *kinds: str) -> str:
        """Hash of the bytes of files of all clips, by their attributes of `ClipFiles`: 16 hexadecimal digits."""
        return short_hash([[_file_hash(getattr(clip, kind)) for kind in kinds] for clip in self.all])

    def sources(self) -> "ClipSet":
        """The portraits and the given speech of judged videos that have no real clip: the data, whoever made the videos."""
        given = (
            replace(clip, speech=clip.reference) if clip.speech in clip.takes else clip
            for clip in self.judged
        )
        return ClipSet(tuple(given))

    def phones_hash(self) -> str | None:
        """Hash of the phones of all clips: 64 hexadecimal digits; None where none are known."""
        found = [[tuple(vars(phone).values()) for phone in clip.known_phones()[0]] for clip in self.all]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest() if any(found) else None

    def foreign_speech(self, place: int, frames: int) -> ForeignSpeech | None:
        """Speech of the next clip with another voice than the one at ``place`` and sound that can be heard, if any.

        After the last clip comes the first; speech is repeated or cut to so many frames.
        """
        for other in (*self.all[place + 1 :], *self.all[:place]):
            if other.voice == self.all[place].voice:
                continue
            try:
                speech = load_audio(other.speech)
            except CLIP_FAILURES:
                continue
            if speech.any():
                samples = np.resize(speech, frames * SAMPLES_PER_FRAME).astype(np.float32)
                return ForeignSpeech(other.voice, samples)
        return None


def _file_hash(path: Path | None) -> str:
    try:
        return "" if path is None else file_sha256(path)
    except OSError:
        return "not there"  # or not to be read, which is the same to whoever judges


def list_videos(folder: Path, what: str, deep: bool = False) -> dict[str, Path]:
    """Videos of a folder, ``deep``: and its subfolders, by stem in composed Unicode; messages call them ``what``.

    Raises:
        UserError: No such folder, no video in it, or a stem that occurs twice.
    """
    require_folder(folder, what)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith("."):
            stem = composed(path.stem)
            if stem in found:
                raise UserError(f"{path}: {found[stem]} has the same stem; rename one of them")
            found[stem] = path
    if not found:
        inner = [] if deep else [one for one in folder.rglob("*") if one.suffix.lower() in VIDEO_SUFFIXES]
        hint = f"{inner[0]} lies too deep: put them side by side, or give --seeds for takes" if inner else ""
        raise UserError(
            f"{folder}: holds no {what}; {hint or 'give a folder with ' + ', '.join(VIDEO_SUFFIXES) + ' files'}"
        )
    return found


def composed(name: str) -> str:
    """A name in composed Unicode, whatever the file system or a manifest does: part of the data's identity."""
    return unicodedata.normalize("NFC", name)


def reference_clips(folder: Path, split: str | None = "test") -> dict[str, ClipFiles]:
    """Real clips by their stem, without takes: of a prepared folder's split (None: of all), or all videos of a plain folder.

    In a plain folder the subfolder names the identity, else the stem does; a ``STEM.wav`` beside the video is its speech,
    ``STEM.TextGrid`` or ``STEM.phones.csv`` holds its phones.

    Raises:
        UserError: No clip there.
    """
    if (folder / MANIFEST_NAME).is_file():
        found = without_twins(read_manifest(folder))
        require_disjoint(found, folder / MANIFEST_NAME)
        records = [record for record in found if split in (None, record.split)]
        if not records:
            asked = "there are no clips" if split is None else f"split '{split}' has no clips"
            raise UserError(f"{folder}: {asked}; choose another by --split")
        return {clip.name: clip for clip in (recorded_clip(folder, record) for record in records)}
    if split not in ("test", None):
        raise UserError(f"{folder}: is no prepared folder, so it has no split '{split}'; leave out --split")
    clips = {}
    for stem, path in list_videos(folder, "reference videos", deep=True).items():
        sound = path.with_suffix(".wav")
        who = stem if path.parent == folder else composed(path.parent.relative_to(folder).parts[0])
        speech = sound if sound.is_file() else path
        clips[stem] = ClipFiles(stem, path, speech, (), who, who, source=stem, phones=phone_file(path))
    return clips


def recorded_clip(folder: Path, record: ClipRecord) -> ClipFiles:
    """A prepared clip, without takes; its phones lie beside it or in its annotations."""
    video = folder / record.video
    annotations = folder / record.annotations if record.annotations else None
    made = read_dataset_settings(folder) if record.drawn else None
    return ClipFiles(
        composed(record.id),
        video,
        folder / record.audio if record.audio else video,
        (),
        composed(record.identity),
        composed(record.voice),
        composed(record.source),
        record.start,
        tuple(record.crop) if record.crop else None,
        record.frames,
        (record.size, record.size),
        record.split,
        phone_file(video) or annotations,
        annotations,
        record.drawn,
        short_hash(made) if made else "",
    )


def match_videos(
    videos: Path, reference: Path, seeds: bool = False, split: str = "test"
) -> tuple[ClipSet, list[Missing]]:
    """Match a method's videos with reference clips by stem.

    Args:
        videos: Folder of videos, or with ``seeds`` of one subfolder for each sampling seed.
        reference: Folder of the real clips, see `reference_clips`.
        seeds: Whether there are takes of several sampling seeds.
        split: Of a prepared reference.

    Returns:
        The clips in the order of their names, and what has no partner.

    Raises:
        UserError: A folder is missing or empty, or not one stem matches.
    """
    clips = reference_clips(reference, split)
    folders = [videos]
    if seeds:
        found = require_folder(videos, "videos").iterdir()
        folders = sorted(path for path in found if path.is_dir() and not path.name.startswith("."))
        if not folders:
            raise UserError(f"{videos}: --seeds wants one subfolder for each sampling seed; there is none")
    takes = [list_videos(folder, "videos") for folder in folders]
    stems = sorted({stem for found in takes for stem in found} - set(clips))
    missing = [entry(stem, PARTNER, f"no reference clip of this stem in {reference}") for stem in stems]
    matched = []
    for name, clip in sorted(clips.items()):
        absent = [folder.name for folder, found in zip(folders, takes, strict=True) if name not in found]
        if absent:
            where = f" (seed folders {', '.join(absent)})" if seeds else ""
            missing.append(entry(name, PARTNER, f"no video of this stem in {videos}{where}"))
        else:
            matched.append(replace(clip, takes=tuple(found[name] for found in takes)))
    if not matched:
        first = f"; {missing[0]['clip']}: {missing[0]['why']}" if missing else ""
        raise UserError(f"{videos}: no video has the stem of a reference clip in {reference}{first}")
    return ClipSet(tuple(matched), spare_clips(matched, list(clips.values()))), missing


def spare_clips(
    judged: Sequence[ClipFiles], clips: Sequence[ClipFiles], most: int = 20
) -> tuple[ClipFiles, ...]:
    """The first clips, by name, that are not judged, so many that judges have ``most`` in all to be fitted on."""
    used = {clip.name for clip in judged}
    others = sorted((clip for clip in clips if clip.name not in used), key=lambda clip: clip.name)
    return tuple(others[: max(0, most - len(judged))])


def with_speakers(data: ClipSet, folder: Path | None) -> ClipSet:
    """The data, to spare also the real clips of a folder, see `reference_clips`; files that are judged aren't learnt from.

    Raises:
        UserError: No other clip there, or drawn heads beside real ones.
    """
    if folder is None:
        return data
    given = list_of_speakers(folder)
    known = {_file_hash(path) for clip in data.all for path in (clip.reference, *clip.takes)}
    found = [clip for clip in given if _file_hash(clip.reference) not in known]
    if not found:
        raise UserError(
            f"{folder}: holds no other speakers than those that are judged; name a folder of others"
        )
    if {clip.drawn for clip in found} != {clip.drawn for clip in data.judged}:
        raise UserError(f"{folder}: speakers and judged clips must be of one kind, drawn heads or real ones")
    if len(found) < len(given):
        log.info(
            "%s: %d of %d speakers are judged clips, which are left out",
            folder,
            len(given) - len(found),
            len(given),
        )
    named = (
        replace(clip, name=f"speakers/{clip.name}") for clip in found
    )  # stems may be those of judged clips
    return replace(data, spare=(*data.spare, *named))


def list_of_speakers(folder: Path) -> list[ClipFiles]:
    """The clips of all splits of a prepared folder, or of a plain one; UserError where there is none."""
    if not (folder / MANIFEST_NAME).is_file():
        list_videos(folder, "speakers' videos", deep=True)
    return list(reference_clips(folder, None).values())
