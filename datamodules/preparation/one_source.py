"""One video to clips: the whole way, in one process."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.annotations import write_annotations
from datamodules.audio import fit_length, load_audio, write_wav
from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.errors import UserError
from datamodules.faces import SquareCrop, crop_square
from datamodules.manifest import ClipRecord, file_sha256
from datamodules.preparation.cropping import clip_crop
from datamodules.preparation.face_tracks import FaceTrack, company_share, tracks_of
from datamodules.preparation.measured import annotations_of
from datamodules.preparation.quality import loudness, outside_share, pose_range, sharpness
from datamodules.preparation.seeing import Seen, look
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import Rejection, Source, Span
from datamodules.video import VideoReader, write_video

CHUNK = 25
"""Frames decoded at a time."""

SyncJudge = Callable[[np.ndarray, np.ndarray], tuple[int, float]]
"""From frames ``(T, S, S, 3)`` uint8 and sound ``(640 T,)`` to the frames that the sound is late by, and a confidence."""


@dataclass
class Outcome:
    """What became of a source.

    Attributes:
        records: the kept clips; their split is set when all identities are known.
        rejections: what was not kept, and why.
        seconds: of video that was looked at.
        times: seconds of work by what was done.
    """

    records: list[ClipRecord] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """Inverse of ``to_dict``."""
        return cls(
            [ClipRecord(**record) for record in values["records"]],
            [Rejection(**rejection) for rejection in values["rejections"]],
            values["seconds"],
            values["times"],
        )


class _Clock:
    """Adds up how long what takes."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self.times[what] = self.times.get(what, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class _Piece:
    """A run of frames with one face: what a clip is made of.

    Attributes:
        id: file stem of the clip.
        track: the face.
        first: first frame of the clip in the video at 25 fps.
        frames: number of frames.
        crop: its square.
        company: share of frames with another large face.
    """

    id: str
    track: FaceTrack
    first: int
    frames: int
    crop: SquareCrop
    company: float


class _Refused(Exception):
    """A part that is not fit; carries reason and detail."""


def prepare_source(
    source: Source, output: Path, settings: PreparationSettings, sync_judge: SyncJudge | None = None
) -> Outcome:
    """Cuts all clips out of a source and writes them below ``output/clips``; what can't be used is listed.

    Args:
        source: the video.
        output: dataset folder with an existing folder ``clips``.
        settings: what is kept.
        sync_judge: measures how late the sound is.

    Raises:
        MissingAssetError: the model file of the face landmarker is absent.
        MissingLibraryError: a system library that MediaPipe needs is absent.
    """
    outcome, clock = Outcome(), _Clock()
    try:
        reader = VideoReader(source.video)
        shown = reader.at_rate(FPS)  # stored picture for each frame at 25 fps
    except UserError as error:
        outcome.rejections.append(Rejection(source.name, None, 0.0, None, "not readable", _plain(error, source)))
        return outcome
    clock.lap("index")
    waveform = _sound(source, settings, outcome)
    clock.lap("sound")
    if waveform is None and settings.require_sound:
        return outcome
    for span in source.spans or (Span(source.id, 0.0, None),):
        _prepare_span(source, span, reader, shown, waveform, output, settings, sync_judge, outcome, clock)
    outcome.times = {name: round(seconds, 3) for name, seconds in clock.times.items()}
    return outcome


def _sound(source: Source, settings: PreparationSettings, outcome: Outcome) -> np.ndarray | None:
    """The source's sound at 16 kHz; None, with a rejection where it is required, if there is none."""
    try:
        return load_audio(source.sound or source.video)
    except UserError as error:
        if settings.require_sound:
            detail = _plain(error, source)
            reason = "no sound" if "no sound track" in detail else "sound not readable"
            outcome.rejections.append(Rejection(source.name, None, 0.0, None, reason, detail))
        return None


def _plain(error: Exception, source: Source) -> str:
    """An error's text without the place of the raw folder, which differs from machine to machine."""
    text = str(error)
    for path in (source.video, source.sound):
        if path is not None:
            text = text.replace(str(path), path.name)
    return text


def _prepare_span(
    source: Source,
    span: Span,
    reader: VideoReader,
    shown: np.ndarray,
    waveform: np.ndarray | None,
    output: Path,
    settings: PreparationSettings,
    sync_judge: SyncJudge | None,
    outcome: Outcome,
    clock: _Clock,
) -> None:
    first = round(span.start * FPS)
    last = len(shown) if span.end is None else min(len(shown), round(span.end * FPS))

    def reject(reason: str, detail: str, clip: str | None = None, start: int = first, end: int = last) -> None:
        listed = clip or (span.id if source.spans else None)
        outcome.rejections.append(
            Rejection(source.name, listed, start / FPS, end / FPS, reason, detail)
        )

    if last - first < settings.min_seconds * FPS:
        reject("too short", f"{max(0, last - first) / FPS:.2f} s of video in this span")
        return
    outcome.seconds += (last - first) / FPS
    try:
        seen = look(_frames(reader, shown[first:last]))
    except UserError as error:
        if not isinstance(error, UserError) or type(error) is not UserError:
            raise  # a part of the installation is missing: that is no fault of this file
        reject("not readable", _plain(error, source))
        return
    clock.lap("looking")
    number = 0
    for shot in seen.shots():
        for start, end, result in _pieces_of_shot(source, span, seen, shot, reader, settings):
            if isinstance(result, _Refused):
                reject(*result.args, start=first + start, end=first + end)
                continue
            track, crop, company = result
            clip = span.id if source.spans and len(seen.shots()) == 1 and number == 0 else f"{span.id}_{number:03d}"
            number += 1
            piece = _Piece(clip, track, first + start, end - start, crop, company)
            try:
                outcome.records.append(
                    _write_clip(source, piece, first, reader, shown, waveform, output, settings, sync_judge)
                )
            except _Refused as refused:
                reject(*refused.args, clip=clip, start=piece.first, end=piece.first + piece.frames)
            except UserError as error:
                reject("not readable", _plain(error, source), clip=clip)
            clock.lap("writing")


def _frames(reader: VideoReader, indices: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(indices), CHUNK):
        yield from reader.get(indices[start : start + CHUNK])


def _pieces_of_shot(
    source: Source,
    span: Span,
    seen: Seen,
    shot: tuple[int, int],
    reader: VideoReader,
    settings: PreparationSettings,
) -> Iterator[tuple[int, int, "tuple[FaceTrack, SquareCrop, float] | _Refused"]]:
    """The clips of a shot, or why there is none: first frame, frame after the last, and what is there."""
    shortest = round(settings.min_seconds * FPS)
    start, end = shot
    if end - start < shortest:
        yield start, end, _Refused("too short", f"a shot of {(end - start) / FPS:.2f} s")
        return
    tracks = tracks_of(seen.faces, start, end)
    if not tracks:
        yield start, end, _Refused("no face", "no face in the whole shot")
        return
    if span.face is not None:
        tracks = [track for track in tracks if _is_at(track, span.face.at(reader.info.height, reader.info.width))]
        if not tracks:
            yield start, end, _Refused("another face", "no face where the dataset's speaker is")
            return
    kept = [track for track in tracks if track.frames[-1] + 1 - track.frames[0] >= shortest]
    if not kept:
        longest = max(track.frames[-1] + 1 - track.frames[0] for track in tracks)
        yield start, end, _Refused("face not tracked", f"a face for {longest / FPS:.2f} s at most")
        return
    covered: list[tuple[int, int]] = []
    for track in kept:  # the weightiest first: another one only where that is gone
        low, high = track.frames[0], track.frames[-1] + 1
        if any(low < b and a < high for a, b in covered):
            continue
        covered.append((low, high))
        yield from _cut_track(span, seen, track, reader, settings)


def _is_at(track: FaceTrack, place: tuple[float, float, float, float]) -> bool:
    """Whether the middle of a face lies, most of the time, in a box."""
    middle = np.median([[(f.box.x0 + f.box.x1) / 2, (f.box.y0 + f.box.y1) / 2] for f in track.faces], axis=0)
    return bool(place[0] <= middle[0] <= place[2] and place[1] <= middle[1] <= place[3])


def _cut_track(
    span: Span, seen: Seen, track: FaceTrack, reader: VideoReader, settings: PreparationSettings
) -> Iterator[tuple[int, int, "tuple[FaceTrack, SquareCrop, float] | _Refused"]]:
    """A track in equal parts that are not too long, halved where the head moves too far for one crop."""
    shortest, longest = round(settings.min_seconds * FPS), round(settings.max_seconds * FPS)
    low, high = track.frames[0], track.frames[-1] + 1
    parts = -(-(high - low) // longest)
    edges = [low + (high - low) * part // parts for part in range(parts + 1)]
    waiting = list(zip(edges[:-1], edges[1:], strict=True))
    while waiting:
        start, end = waiting.pop(0)
        part = _part(track, start, end)
        crop = None if part is None else _crop(span, part, reader, settings)
        if part is None:
            yield start, end, _Refused("face not tracked", "lost for most of this part")
        elif crop is not None:
            yield start, end, (part, crop, company_share(part, seen.faces))
        elif end - start >= 2 * shortest:
            middle = (start + end) // 2
            waiting[:0] = [(start, middle), (middle, end)]
        else:
            yield start, end, _Refused("moves too far", "no square holds the head at a usual size")


def _part(track: FaceTrack, start: int, end: int) -> FaceTrack | None:
    inside = [i for i, number in enumerate(track.frames) if start <= number < end]
    if not inside:
        return None
    return FaceTrack([track.frames[i] for i in inside], [track.faces[i] for i in inside])


def _crop(span: Span, part: FaceTrack, reader: VideoReader, settings: PreparationSettings) -> SquareCrop | None:
    height, width = reader.info.height, reader.info.width
    if span.crop is None or not settings.published_crops:
        return clip_crop(part.boxes(), height, width)
    box = span.crop.scaled(height / (span.crop_height or height))
    side = max(box.width, box.height)
    return SquareCrop(box.x + (box.width - side) / 2, box.y + (box.height - side) / 2, side)


def _write_clip(
    source: Source,
    piece: _Piece,
    first: int,
    reader: VideoReader,
    shown: np.ndarray,
    waveform: np.ndarray | None,
    output: Path,
    settings: PreparationSettings,
    sync_judge: SyncJudge | None,
) -> ClipRecord:
    """Checks and writes one clip; raises ``_Refused`` where it is not fit.

    ``first`` is the first frame that was looked at: the numbers of a track count from there.
    """
    info = reader.info
    face = float(np.median([seen.box.side for seen in piece.track.faces]))
    tracked = len(piece.track.frames) / piece.frames
    outside = outside_share(piece.crop, info.height, info.width)
    sound = None
    if waveform is not None:
        begin = piece.first * SAMPLES_PER_FRAME
        sound = fit_length(waveform[begin : begin + piece.frames * SAMPLES_PER_FRAME], piece.frames)
    level = None if sound is None else loudness(sound)
    checks = (
        (face >= settings.min_face, "face too small", f"{face:.0f} pixels"),
        (tracked >= settings.min_tracked, "face not tracked", f"seen in {tracked:.0%} of the frames"),
        (
            piece.company <= settings.max_company,
            "several faces",
            f"another large face in {piece.company:.0%} of the frames",
        ),
        (outside <= settings.max_outside, "face at the edge", f"{outside:.0%} of the crop lies outside"),
        (
            level is None or not settings.require_sound or level >= settings.min_loudness,
            "silent",
            f"{level or 0:.1f} dB",
        ),
    )
    for good, reason, detail in checks:
        if not good:
            raise _Refused(reason, detail)
    looked_at = np.unique(np.linspace(0, piece.frames - 1, 5).astype(int))
    pictures = reader.get(shown[piece.first + looked_at])
    sharp = sharpness(np.stack([crop_square(picture, piece.crop, 256) for picture in pictures]))
    if sharp < settings.min_sharpness:
        raise _Refused("blurred", f"sharpness {sharp:.1f}")

    stem = f"clips/{piece.id}"
    numbers = shown[piece.first : piece.first + piece.frames]
    cropped = (crop_square(frame, piece.crop, settings.size) for frame in _frames(reader, numbers))
    late, confidence = None, None
    if sync_judge is not None and sound is not None:
        kept = np.stack(list(cropped))
        late, confidence = sync_judge(kept, sound)
        cropped = iter(kept)
    write_video(output / f"{stem}.mp4", cropped, keyframe_interval=25)
    if sound is not None:
        write_wav(output / f"{stem}.wav", sound)
    arrays, metadata = annotations_of(piece.track, piece.first - first, piece.frames, piece.crop)
    write_annotations(output / f"{stem}.safetensors", arrays, metadata)
    quality = {
        "face": round(face, 1),
        "sharpness": round(sharp, 2),
        "tracked": round(tracked, 4),
        "company": round(piece.company, 4),
        "outside": round(outside, 4),
        "loudness": None if level is None else round(level, 2),
        "av_offset": late,
        "sync_confidence": confidence,
        "source_fps": round(info.fps, 3),
        "source_height": info.height,
        **pose_range(piece.track),
    }
    return ClipRecord(
        id=piece.id,
        video=f"{stem}.mp4",
        audio=None if sound is None else f"{stem}.wav",
        sha256=file_sha256(output / f"{stem}.mp4"),
        identity=source.identity,
        voice=source.identity,
        split=source.split or "train",
        source=source.name,
        start=piece.first / FPS,
        frames=piece.frames,
        size=settings.size,
        crop=[
            round(float(edge), 3)
            for edge in (
                piece.crop.x, piece.crop.y, piece.crop.x + piece.crop.side, piece.crop.y + piece.crop.side,
            )
        ],
        quality=quality,
        annotations=f"{stem}.safetensors",
    )  # fmt: skip
