"""Clips that are read and rendered: cut, brought to one size, with their sound."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.errors import UserError
from datamodules.faces.finding import FaceBox, find_faces, select_face
from datamodules.faces.framing import SquareCrop, crop_square, framing
from datamodules.media.audio import fit_length, frame_count, load_audio
from datamodules.media.video import VideoInfo, VideoReader
from metrics.evaluation.clips import CLIP_FAILURES, ClipFiles, ClipSet, ForeignSpeech, Missing, entry
from metrics.evaluation.protocol_names import ReadingSettings

_FACE_LOOKS = 5
_CHUNK = 32
_DECODED = 2**28
"""Bytes of frames that are decoded at a time, before they are brought to size."""


@dataclass(frozen=True)
class Truth:
    """What annotations say of a real clip's frames."""

    lip_opening: np.ndarray | None = None  # (T,), or None
    regions: np.ndarray | None = None  # (T, 3, 4) boxes of mouth and eyes, or None


@dataclass(frozen=True)
class RenderedClip:
    """A real clip and the rows that are held against it: all of one size, the rows of one length T, which is compared."""

    files: ClipFiles  # where it comes from
    # (T', H, W, 3) uint8, the real frames; up to two more than the rows have
    whole: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))
    # row -> (T, H, W, 3) uint8 of each take; generated has one for each sampling seed
    rows: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    sound: np.ndarray | None = None  # (640 T',) float in [-1, 1], or None without sound
    silence: str = ""  # why there is no sound; empty otherwise
    # from and to which size the takes were resized where they were not cut to the face; empty: they were not
    resized: str = ""
    # speech of another voice, which the row swapped is made from; None: there is none
    foreign: ForeignSpeech | None = None
    truth: Truth | None = None  # what annotations say; None: not asked
    # further values of the clip, such as the speed it was made at
    facts: dict[str, float] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()  # what of it could not be rendered
    failure: str = ""  # why there is nothing of it to judge; empty otherwise

    def __len__(self) -> int:
        return min(len(frames) for frames in (self.whole, *self.rows.get("generated", ())))

    @property
    def real(self) -> np.ndarray:
        """``(T, H, W, 3)`` uint8, the real frames that are compared."""
        return self.whole[: len(self)]

    @property
    def waveform(self) -> np.ndarray | None:
        """``(640 T,)`` float in [-1, 1], their sound."""
        return None if self.sound is None else self.sound[: len(self) * SAMPLES_PER_FRAME]


def rendered_clips(
    data: ClipSet,
    reading: ReadingSettings,
    render: Callable[[RenderedClip], RenderedClip] | None = None,
    find: Callable[[np.ndarray], SquareCrop] | None = None,
    load: Callable[..., RenderedClip] | None = None,
) -> Iterator[RenderedClip]:
    """Read and render the clips one after the other; one that fails comes with its reason instead of frames.

    ``render`` adds rows to those of a clip's files; ``find`` finds the crop of some frames, else `find_crop` does; ``load``
    reads a clip's files, else `load_clip` does.
    """
    for place, files in enumerate(data.judged):
        try:
            clip = (load or load_clip)(files, reading, find or find_crop)
            clip = replace(clip, foreign=data.foreign_speech(place, len(clip)))
            clip = clip if render is None else render(clip)
        except CLIP_FAILURES as error:
            clip = RenderedClip(files, failure=str(error) or type(error).__name__)
        yield clip


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames ``(T, H, W, 3)`` uint8 at another size by antialiased bicubic interpolation."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = np.empty((len(frames), height, width, 3), np.uint8)
    for start in range(0, len(frames), _CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(frames[start : start + _CHUNK])).permute(0, 3, 1, 2)
        images = F.interpolate(
            part.float(), (height, width), mode="bicubic", antialias=True, align_corners=False
        )
        pixels = images.round().clamp(0, 255).to(torch.uint8)
        resized[start : start + _CHUNK] = pixels.permute(0, 2, 3, 1).numpy()
    return resized


def find_crop(frames: np.ndarray, find: Callable[[np.ndarray], list[FaceBox]] = find_faces) -> SquareCrop:
    """The square in which this project sees a face, by the median box over some frames ``(N, H, W, 3)`` uint8.

    With several faces in view it is that of the largest, followed through the frames by its place.

    Raises:
        ValueError: No face in most of them.
    """
    looks = [found for found in map(find, frames) if found]
    if 2 * len(looks) < len(frames) or not looks:
        raise ValueError(
            f"no face found in {len(frames) - len(looks)} of {len(frames)} frames looked at; leave out the crop if faces "
            "fill the frames"
        )
    largest = select_face([select_face(found) for found in looks])

    def distance(box: FaceBox) -> float:
        return math.dist(*(((one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2) for one in (box, largest)))

    boxes = [box for box in (min(found, key=distance) for found in looks) if distance(box) < largest.side]
    x0, y0, x1, y1 = (float(value) for value in np.median([box[:4] for box in boxes], axis=0))
    return framing(FaceBox(x0, y0, x1, y1))


class Frames(Protocol):
    """Frames that are decoded when they are asked for: a video's, or a picture as a video of one."""

    path: Path
    info: VideoInfo

    def get(self, indices: np.ndarray, /) -> np.ndarray:
        """Some of them, ``(N, H, W, 3)`` uint8."""


def _fitting(
    reader: Frames,
    indices: np.ndarray,
    reading: ReadingSettings,
    like: tuple[int, int] | None,
    find: Callable[[np.ndarray], SquareCrop],
) -> Callable[[np.ndarray], np.ndarray]:
    """Brings frames to the wanted size: cropped, or the shorter side at it; ``like`` is the reference's result."""
    height, width = reader.info.height, reader.info.width
    if reading.crop == "face":
        looks = indices[np.linspace(0, len(indices) - 1, _FACE_LOOKS).round().astype(int)]
        try:
            crop = find(reader.get(looks))
        except ValueError as error:
            raise ValueError(f"{reader.path}: {error}") from None
        side = reading.size or (like[0] if like else min(height, width))
        return lambda frames: np.stack([crop_square(frame, crop, side) for frame in frames])
    if like is None:
        scale = (reading.size or min(height, width)) / min(height, width)
        return lambda frames: resize(frames, round(height * scale), round(width * scale))
    if abs(width / height - like[1] / like[0]) > 0.02:
        raise ValueError(
            f"{reader.path}: {width} x {height} pixels have another shape than the reference; use --crop face"
        )
    return lambda frames: resize(frames, *like)


def read_fitted(
    reader: Frames,
    indices: np.ndarray,
    reading: ReadingSettings,
    find: Callable[[np.ndarray], SquareCrop],
    like: tuple[int, int] | None = None,
    decoded: int = _DECODED,
) -> np.ndarray:
    """Frames ``(T, H, W, 3)`` uint8 at the wanted size, ``decoded`` bytes at a time; ``like``: at this height and width.

    Raises:
        UserError: The file is damaged.
        ValueError: The shape is another than ``like``, or no face can be cropped to.
    """
    fit = _fitting(reader, indices, reading, like, find)
    most = max(1, decoded // (3 * reader.info.height * reader.info.width))
    parts = [fit(reader.get(indices[start : start + most])) for start in range(0, len(indices), most)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def load_clip(
    files: ClipFiles,
    reading: ReadingSettings,
    find: Callable[[np.ndarray], SquareCrop] = find_crop,
    decoded: int = _DECODED,
) -> RenderedClip:
    """Read a real clip and its takes, ``decoded`` bytes of frames at a time; ``find`` finds the crop of some frames.

    Lengths are told by the files' packets; only the frames that are judged are decoded.

    Raises:
        UserError: A file is missing or damaged.
        ValueError: Lengths differ by more than two frames, the clip is too short, the shape is another, or no face can
            be cropped to.
    """
    stored = VideoReader(files.reference)
    takes = [VideoReader(path) for path in files.takes]
    lengths = [len(reader.at_rate()) for reader in (stored, *takes)]
    for path, length in zip(files.takes, lengths[1:], strict=True):
        if abs(length - lengths[0]) > reading.most_length_difference:
            raise ValueError(
                f"{path} has {length} frames at 25 fps, the reference {lengths[0]}; they may differ by "
                f"{reading.most_length_difference}: give a video of the clip's length"
            )
    whole = min(lengths[0], reading.max_frames or lengths[0])
    length = min(whole, *lengths)
    if length < reading.shortest:
        raise ValueError(f"only {length} frames: too short to judge, which takes {reading.shortest}")
    real = read_fitted(stored, stored.at_rate()[:whole], reading, find, decoded=decoded)
    size = (real.shape[1], real.shape[2])
    fitted = tuple(read_fitted(take, take.at_rate()[:length], reading, find, size, decoded) for take in takes)
    sizes = {(take.info.height, take.info.width) for take in takes} - {size}
    others = ", ".join(sorted(f"{width}x{height}" for height, width in sizes))
    resized = f"{others} to {size[1]}x{size[0]}" if sizes and reading.crop == "as given" else ""
    sound, silence = speech_of(files.speech, whole, reading.most_length_difference)
    rows = {"generated": fitted} if fitted else {}
    return RenderedClip(
        files, real, rows, sound, silence, resized, missing=damage_in(files.name, stored, *takes)
    )


def damage_in(clip: str, *readers: VideoReader) -> tuple[Missing, ...]:
    """Entries for the frames of a clip's videos that were damaged where they were read."""
    told = [reader.warn_of_damage() for reader in readers]
    return tuple(entry(clip, "frames", why) for why in told if why)


def speech_of(path: Path, frames: int, most: int) -> tuple[np.ndarray | None, str]:
    """Speech ``(640 T,)`` of so many frames, or None and why: it may end ``most`` frames early, which are silent then."""
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
