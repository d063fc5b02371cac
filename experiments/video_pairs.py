"""Anyone's videos and the real clips they belong to: matched by file stem, read, cut and brought to one size."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.manifest import MANIFEST_NAME, ClipRecord, file_sha256, read_manifest, without_twins
from datamodules.clips.phones import phone_file
from datamodules.errors import UserError
from datamodules.faces.finding import FaceBox, find_faces, select_face
from datamodules.faces.framing import SquareCrop, crop_square, framing
from datamodules.files import require_folder
from datamodules.media.audio import fit_length, frame_count, load_audio
from datamodules.media.pictures import resize_bicubic as resize
from datamodules.media.video import VideoReader, probe
from experiments.results import PARTNER
from metrics.protocol import SHORTEST, protocol_hash

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
MOST_FITTED = 20
"""Clips at most that what speech does to lips is learnt from, if real clips without a video have to help."""
_LOOKS = 5
_DECODED = 2**28
"""Bytes of frames that are decoded at a time, before they are brought to size."""


class Foreign(NamedTuple):
    """Speech of another voice.

    Attributes:
        voice: Whose.
        waveform: ``(640 T,)`` float in [-1, 1].
    """

    voice: str
    waveform: np.ndarray


Missing = dict[str, str]
"""What could not be judged: ``clip`` (``*``: all), ``what`` and ``why``."""


@dataclass(frozen=True)
class VideoPair:
    """A real clip and the videos a method made for it.

    Attributes:
        name: File stem.
        reference: The real video.
        speech: Where the clip's speech is read from.
        takes: The method's videos, one for each sampling seed.
        identity: Who is seen.
        voice: Who is heard.
        phones: File with the times of its speech sounds; None where there is none.
        annotations: File with what is known of its frames, likewise: truth of drawn clips, measurements of others.
        drawn: Whether it is known to show a synthetic head.
    """

    name: str
    reference: Path
    speech: Path
    takes: tuple[Path, ...]
    identity: str
    voice: str
    phones: Path | None = None
    annotations: Path | None = None
    drawn: bool = False


@dataclass(frozen=True)
class VideoClip:
    """A pair that was read: all of one size, and the takes of one length T, which is compared.

    Attributes:
        pair: Where it comes from.
        whole: ``(T', H, W, 3)`` uint8, the real frames; up to two more than the takes have.
        takes: ``(T, H, W, 3)`` uint8, one for each sampling seed.
        sound: ``(640 T',)`` float in [-1, 1], or None without sound.
        silence: Why there is no sound; empty otherwise.
        resized: The takes' own size where they were not cut to the face and it was another, as ``WxH``; empty otherwise.
        others: Takes of further rows, by row.
    """

    pair: VideoPair
    whole: np.ndarray
    takes: tuple[np.ndarray, ...]
    sound: np.ndarray | None
    silence: str
    resized: str
    others: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return min(len(frames) for frames in (self.whole, *self.takes))

    @property
    def real(self) -> np.ndarray:
        """``(T, H, W, 3)`` uint8, the real frames that are compared."""
        return self.whole[: len(self)]

    @property
    def waveform(self) -> np.ndarray | None:
        """``(640 T,)`` float in [-1, 1], their sound."""
        return None if self.sound is None else self.sound[: len(self) * SAMPLES_PER_FRAME]


def entry(clip: str, what: str, why: str) -> Missing:
    """An entry of what is missing."""
    return {"clip": clip, "what": what, "why": " ".join(why.split())}


def list_videos(folder: Path, what: str, deep: bool = False) -> dict[str, Path]:
    """Videos of a folder by their stem, which is spelled in composed Unicode whatever the file system does.

    Args:
        folder: Where to look.
        what: What it is, for messages.
        deep: Whether to look into subfolders.

    Raises:
        UserError: No such folder, no video in it, or a stem that occurs twice.
    """
    require_folder(folder, what)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            stem = _composed(path.stem)
            if stem in found:
                raise UserError(f"{path}: {found[stem]} has the same stem; rename one of them")
            found[stem] = path
    if not found:
        inner = [] if deep else [one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES]
        hint = f"{inner[0]} lies too deep: put them side by side, or give --seeds for takes" if inner else ""
        raise UserError(
            f"{folder}: holds no {what}; {hint or 'give a folder with ' + ', '.join(SUFFIXES) + ' files'}"
        )
    return found


def reference_clips(folder: Path, split: str = "test") -> dict[str, VideoPair]:
    """Real clips by their stem, without takes: of a prepared folder's split, or all videos of a plain folder.

    In a plain folder the subfolder names the identity, else the stem does; a ``STEM.wav`` beside the video is its speech,
    ``STEM.TextGrid`` or ``STEM.phones.csv`` holds its phones.

    Raises:
        UserError: No clip there.
    """
    if not (folder / MANIFEST_NAME).is_file():
        if split != "test":
            raise UserError(
                f"{folder}: is no prepared folder, so it has no split '{split}'; leave out --split"
            )
        clips = {}
        for stem, path in list_videos(folder, "reference videos", deep=True).items():
            sound = path.with_suffix(".wav")
            who = stem if path.parent == folder else _composed(path.parent.relative_to(folder).parts[0])
            speech = sound if sound.is_file() else path
            clips[stem] = VideoPair(stem, path, speech, (), who, who, phone_file(path))
        return clips
    records = [record for record in without_twins(read_manifest(folder)) if record.split == split]
    if not records:
        raise UserError(f"{folder}: split '{split}' has no clips; choose another by --split")
    return {clip.name: clip for clip in (recorded_clip(folder, record) for record in records)}


def recorded_clip(folder: Path, record: ClipRecord) -> VideoPair:
    """A prepared clip, without takes; its phones lie beside it or in its annotations."""
    video = folder / record.video
    annotations = folder / record.annotations if record.annotations else None
    speech = folder / record.audio if record.audio else video
    phones = phone_file(video) or annotations
    name, identity, voice = map(_composed, (record.id, record.identity, record.voice))
    return VideoPair(name, video, speech, (), identity, voice, phones, annotations, record.drawn)


def _composed(name: str) -> str:
    """A name in composed Unicode, whatever the file system or a manifest does: it is part of the hash."""
    return unicodedata.normalize("NFC", name)


def take_folders(videos: Path, seeds: bool) -> list[Path]:
    """The folders that hold one take each: ``videos`` itself, or with ``seeds`` its subfolders.

    Raises:
        UserError: Seeds are asked for and there are no subfolders.
    """
    if not seeds:
        return [videos]
    found = require_folder(videos, "videos").iterdir()
    folders = sorted(path for path in found if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UserError(f"{videos}: --seeds wants one subfolder for each sampling seed; there is none")
    return folders


def find_pairs(
    videos: Path, reference: Path, seeds: bool = False, split: str = "test"
) -> tuple[list[VideoPair], list[Missing]]:
    """Match videos with reference clips by stem.

    Returns:
        The pairs in the order of their names, and what has no partner.

    Raises:
        UserError: A folder is missing or empty, or not one stem matches.
    """
    clips = reference_clips(reference, split)
    folders = take_folders(videos, seeds)
    takes = [list_videos(folder, "videos") for folder in folders]
    stems = sorted({stem for found in takes for stem in found})
    missing = [
        entry(stem, PARTNER, f"no reference clip of this stem in {reference}")
        for stem in stems
        if stem not in clips
    ]
    pairs = []
    for name, clip in sorted(clips.items()):
        absent = [folder.name for folder, found in zip(folders, takes, strict=True) if name not in found]
        if absent:
            where = f" (seed folders {', '.join(absent)})" if seeds else ""
            missing.append(entry(name, PARTNER, f"no video of this stem in {videos}{where}"))
        else:
            paths = tuple(found[name] for found in takes)
            pairs.append(replace(clip, takes=paths))
    if not pairs:
        first = f"; {missing[0]['clip']}: {missing[0]['why']}" if missing else ""
        raise UserError(f"{videos}: no video has the stem of a reference clip in {reference}{first}")
    return pairs, missing


def spare_clips(pairs: Sequence[VideoPair], reference: Path, split: str = "test") -> list[VideoPair]:
    """The first reference clips that no video was made for, so many that judges have 20 to be fitted on."""
    used = {pair.name for pair in pairs}
    spares = [clip for _, clip in sorted(reference_clips(reference, split).items()) if clip.name not in used]
    return spares[: max(0, MOST_FITTED - len(pairs))]


def split_hashes(pairs: Sequence[VideoPair], spares: Sequence[VideoPair]) -> dict[str, Any]:
    """Which clips are judged, and which help to fit the judges: what is read of each, and whose it is."""
    return {
        "judged": {pair.name: _clip_hashes(pair) for pair in pairs},
        "fitted": {pair.name: _clip_hashes(pair) for pair in spares},
    }


def protocol_record(
    name: str,
    settings: dict[str, Any],
    pairs: Sequence[VideoPair],
    spares: Sequence[VideoPair],
    judges: Mapping[str, str],
) -> dict[str, Any]:
    """Name, hash and settings of the protocol; results with different hashes must not be ranked together."""
    digest = protocol_hash(settings, split_hashes(pairs, spares), judges)
    return {"name": name, "hash": digest, "settings": settings}


def _clip_hashes(pair: VideoPair) -> dict[str, str]:
    files = {"video": pair.reference, "speech": pair.speech, "phones": pair.phones, "truth": pair.annotations}
    found = {"identity": pair.identity, "voice": pair.voice}
    for name, path in files.items():
        if path is not None and (name == "video" or path != pair.reference):
            try:
                found[name] = file_sha256(path)
            except OSError:
                found[name] = "not there"  # or not to be read, which is the same to whoever judges
    return found


def foreign_speech(clips: Sequence[VideoPair], place: int, frames: int) -> Foreign | None:
    """Speech of the next clip that has another voice and sound that can be heard; after the last comes the first.

    Args:
        clips: In their order.
        place: The clip that it is for.
        frames: Length that it is repeated or cut to.

    Returns:
        None where there is no such clip.
    """
    for other in [*clips[place + 1 :], *clips[:place]]:
        if other.voice == clips[place].voice:
            continue
        try:
            speech = load_audio(other.speech)
        except (UserError, OSError, ValueError):
            continue
        if speech.any():
            return Foreign(other.voice, np.resize(speech, frames * SAMPLES_PER_FRAME).astype(np.float32))
    return None


def find_crop(frames: np.ndarray) -> SquareCrop:
    """The square in which this project sees a face, by the median box over some frames ``(N, H, W, 3)`` uint8.

    With several faces in view it is that of the largest, followed through the frames by its place.

    Raises:
        ValueError: No face in most of them.
    """
    looks = [found for found in map(find_faces, frames) if found]
    if 2 * len(looks) < len(frames) or not looks:
        raise ValueError(
            f"no face found in {len(frames) - len(looks)} of {len(frames)} frames looked at; leave out the crop if faces "
            "fill the frames"
        )
    largest = select_face([select_face(found) for found in looks])
    centre = np.array([largest.x0 + largest.x1, largest.y0 + largest.y1]) / 2

    def distance(box: FaceBox) -> float:
        return float(np.hypot(*(np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2 - centre)))

    boxes = [box for box in (min(found, key=distance) for found in looks) if distance(box) < largest.side]
    x0, y0, x1, y1 = (float(value) for value in np.median([box[:4] for box in boxes], axis=0))
    return framing(FaceBox(x0, y0, x1, y1, largest.score, largest.source))


def _fitting(
    reader: VideoReader, indices: np.ndarray, settings: dict[str, Any], like: tuple[int, int] | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Brings frames to the protocol's size: cropped, or the shorter side at it; ``like`` is the reference's result."""
    height, width = reader.info.height, reader.info.width
    size = settings["size"]
    if settings["crop"] == "face":
        looks = indices[np.linspace(0, len(indices) - 1, _LOOKS).round().astype(int)]
        try:
            crop = find_crop(reader.get(looks))
        except ValueError as error:
            raise ValueError(f"{reader.path}: {error}") from None
        side = size or (like[0] if like else min(height, width))
        return lambda frames: np.stack([crop_square(frame, crop, side) for frame in frames])
    if like is None:
        scale = (size or min(height, width)) / min(height, width)
        return lambda frames: resize(frames, round(height * scale), round(width * scale))
    if abs(width / height - like[1] / like[0]) > 0.02:
        raise ValueError(
            f"{reader.path}: {width} x {height} pixels have another shape than the reference; use --crop face"
        )
    return lambda frames: resize(frames, *like)


def _read_fitted(
    reader: VideoReader, length: int, settings: dict[str, Any], like: tuple[int, int] | None = None
) -> np.ndarray:
    """The first frames at 25 fps as a protocol wants them; what the file holds beyond them is not decoded."""
    indices = reader.at_rate()[:length]
    fit = _fitting(reader, indices, settings, like)
    most = max(1, _DECODED // (3 * reader.info.height * reader.info.width))
    parts = [fit(reader.get(indices[start : start + most])) for start in range(0, length, most)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def load_pair(pair: VideoPair, settings: dict[str, Any]) -> VideoClip:
    """Read a pair as a protocol wants it.

    Lengths are told by the files' packets; only the frames that are judged are decoded.

    Args:
        pair: Which files.
        settings: Of the protocol.

    Raises:
        UserError: A file is missing or damaged.
        ValueError: Lengths differ by more than two frames, the clip is too short, the shape is another, or no face can
            be cropped to.
    """
    stored = VideoReader(pair.reference)
    takes = [VideoReader(path) for path in pair.takes]
    lengths = [len(reader.at_rate()) for reader in (stored, *takes)]
    for path, length in zip(pair.takes, lengths[1:], strict=True):
        if abs(length - lengths[0]) > settings["most_length_difference"]:
            raise ValueError(
                f"{path} has {length} frames at 25 fps, the reference {lengths[0]}; they may differ by "
                f"{settings['most_length_difference']}: give a video of the clip's length"
            )
    whole = min(lengths[0], settings["max_frames"] or lengths[0])
    length = min(whole, *lengths)
    if length < SHORTEST:
        raise ValueError(f"only {length} frames: too short to judge, which takes {SHORTEST}")
    real = _read_fitted(stored, whole, settings)
    size = (real.shape[1], real.shape[2])
    fitted = tuple(_read_fitted(take, length, settings, size) for take in takes)
    others = {
        f"{take.info.width}x{take.info.height}"
        for take in takes
        if settings["crop"] == "as given" and (take.info.height, take.info.width) != size
    }
    sound, silence = read_speech(pair.speech, whole, settings["most_length_difference"])
    return VideoClip(pair, real, fitted, sound, silence, ", ".join(sorted(others)))


def read_speech(path: Path, frames: int, most: int) -> tuple[np.ndarray | None, str]:
    """Speech ``(640 T,)`` that belongs to so many frames, or None and why.

    Args:
        path: Sound file, or a video.
        frames: Its length: what lasts longer is cut.
        most: Frames at most that it may end before the pictures; they are filled with silence.
    """
    try:
        speech = load_audio(path)
    except UserError as error:
        return None, str(error)
    if not speech.any():
        return None, f"{path}: its sound is silence throughout"
    lasts = frame_count(len(speech))
    if frames - lasts > most:
        return None, f"{path}: its sound lasts {lasts} frames, the pictures {frames}"
    return fit_length(speech, frames), ""


def clip_length(pair: VideoPair) -> int:
    """Frames at 25 fps of a real clip, without decoding it; 0 where it can't be read.

    The method's videos have no say: every method's windows must be drawn alike.
    """
    try:
        return max(1, round(probe(pair.reference).duration * 25))
    except (UserError, OSError, ValueError):
        return 0
