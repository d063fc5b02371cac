"""One video to clips: the whole way, in one process."""

import errno
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.batches import FPS, SAMPLE_RATE
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.playback import DamagedVideoError
from datamodules.media.video import VideoReader
from datamodules.preparation.clip_files import OpenSource, SyncJudge, problem_of, quality_of, write_clip
from datamodules.preparation.pieces import Cutter, Unfit
from datamodules.preparation.seeing import look
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import Rejection, Source, Span

FAULTS_OF_MACHINE = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
        errno.ESTALE,
    )
)
"""Errors that say nothing of a video."""
FREEZE = 0.1
"""Seconds that a shown picture may be away from its frame; beyond, the video has a hole there."""
LEAST_RATE = 10.0
"""Pictures a second, on average, from which lips can be followed."""

MOST_APART = 3.0
"""Seconds that pictures and sound may differ in length; beyond it one of them was cut off or has a wrong rate."""


@dataclass
class Outcome:
    """What became of a source.

    Attributes:
        records: the kept clips; their split is set when all identities are known.
        rejections: what was not kept, and why.
        seconds: of video that was looked at.
        times: seconds of work by what was done.
        gave_up: whether its process crashed or was stopped, so that files of it may lie about.
    """

    records: list[ClipRecord] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    gave_up: bool = False

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
            values["gave_up"],
        )


class _Clock:
    """Adds up in an outcome how long what takes."""

    def __init__(self, times: dict[str, float]) -> None:
        self._times = times
        self._last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self._times[what] = round(self._times.get(what, 0.0) + now - self._last, 3)
        self._last = now


def prepare_safely(
    source: Source, output: Path, settings: PreparationSettings, sync_judge: SyncJudge | None = None
) -> Outcome:
    """``prepare_source``, with whatever else a broken file makes a decoder raise as a rejection.

    Raises:
        UserError: the machine is at fault, not the video: a part of the installation is missing, the disk is full, ...
    """
    try:
        return prepare_source(source, output, settings, sync_judge)
    except UserError:
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        detail = f"{type(error).__name__}: {first_line}"
        if isinstance(error, MemoryError) or (
            isinstance(error, OSError) and error.errno in FAULTS_OF_MACHINE
        ):
            raise UserError(f"{source.name}: {detail}; mend that and run the same command again") from error
        rejection = Rejection(source.name, None, 0.0, None, "not readable", detail)
        return Outcome(rejections=[rejection], gave_up=True)


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
    outcome = Outcome(rejections=list(source.rejected))
    if source.rejected and not source.spans:
        return outcome
    clock = _Clock(outcome.times)
    try:
        reader = VideoReader(source.video)
    except UserError as error:
        outcome.rejections.append(_whole(source, "not readable", error))
        return outcome
    if reader.info.fps < LEAST_RATE:
        told = f"{reader.info.fps:.1f} pictures a second"
        outcome.rejections.append(Rejection(source.name, None, 0.0, None, "too few pictures", told))
        return outcome
    shown = reader.at_rate(FPS)
    clock.lap("indexing")
    waveform = None
    try:
        waveform = load_audio(source.sound or source.video, strict=True)
    except UserError as error:
        if settings.require_sound:
            reason = "no sound" if "no sound track" in str(error) else "sound not readable"
            outcome.rejections.append(_whole(source, reason, error))
            return outcome
    clock.lap("sound")
    if waveform is not None and settings.require_sound:
        lengths = len(shown) / FPS, len(waveform) / SAMPLE_RATE
        if abs(lengths[0] - lengths[1]) > MOST_APART:
            told = f"pictures of {lengths[0]:.1f} s with sound of {lengths[1]:.1f} s"
            outcome.rejections.append(Rejection(source.name, None, 0.0, None, "lengths differ", told))
            return outcome
    opened = OpenSource(source, reader, shown, waveform)
    for span in source.spans or (Span(source.id, 0.0, None),):
        _prepare_span(opened, span, output, settings, sync_judge, outcome, clock)
    return outcome


def _prepare_span(
    opened: OpenSource,
    span: Span,
    output: Path,
    settings: PreparationSettings,
    sync_judge: SyncJudge | None,
    outcome: Outcome,
    clock: _Clock,
) -> None:
    first = round(span.start * FPS)
    length = len(opened.shown)
    last = length if span.end is None else max(first, min(length, round(span.end * FPS)))
    listed = span.id if opened.source.spans else None

    def reject(
        reason: str, detail: str, start: int = first, end: int = last, clip: str | None = listed
    ) -> None:
        name = opened.source.name
        outcome.rejections.append(Rejection(name, clip, start / FPS, end / FPS, reason, detail))

    if span.end is not None and span.end - length / FPS > 1.0:
        told = f"the video ends at {length / FPS:.1f} s, the clip is listed to {span.end:.1f} s"
        outcome.rejections.append(
            Rejection(opened.source.name, listed, length / FPS, span.end, "video too short", told)
        )
        if first >= length:
            return
    if last - first < settings.min_seconds * FPS:
        reject("too short", f"{max(0, last - first) / FPS:.2f} s of video in this span")
        return
    outcome.seconds += (last - first) / FPS
    try:
        seen = look(opened.frames(first, last)).without(opened.holes(first, last, FREEZE))
    except DamagedVideoError as error:
        reject("not readable", _plain(error, opened.source))
        return
    clock.lap("looking")
    info = opened.reader.info
    found = list(Cutter(seen, span, info.height, info.width, settings).pieces())
    alone = len(found) == 1 and listed is not None
    for number, piece in enumerate(found):
        start, end = first + piece.first, first + piece.first + piece.frames
        if isinstance(piece, Unfit):
            reject(piece.reason, piece.detail, start, end)
            continue
        quality = quality_of(opened, piece, opened.sound(start, piece.frames))
        if problem := problem_of(quality, settings):
            reject(*problem, start, end)
            continue
        clip = span.id if alone else f"{span.id}_{number:03d}"
        try:
            outcome.records.append(
                write_clip(opened, piece, first, clip, quality, output, settings.size, sync_judge)
            )
        except DamagedVideoError as error:
            reject("not readable", _plain(error, opened.source), start, end)
        clock.lap("writing")


def _whole(source: Source, reason: str, error: Exception) -> Rejection:
    return Rejection(source.name, None, 0.0, None, reason, _plain(error, source))


def _plain(error: Exception, source: Source) -> str:
    """An error's text without the place of the raw folder, which differs from machine to machine."""
    text = str(error)
    for path in (source.video, source.sound):
        if path is not None:
            text = text.replace(str(path), path.name)
    return text
