"""One video to clips: detection, segments, quality, files; in one process."""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.batches import FPS, SAMPLE_RATE
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.video import VideoReader
from datamodules.media.video_decoding import DamagedVideoError
from datamodules.preparation.clip_writing import OpenSource, SyncMeasure, write_clip
from datamodules.preparation.detection import detect
from datamodules.preparation.quality import quality_problem, quality_statistics
from datamodules.preparation.segments import Segmenter, Unfit
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import Rejection, Source, Span

FAULTS_OF_MACHINE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)
)  # fmt: skip
"""Errors that say nothing of a video."""
FREEZE = 0.1
"""Seconds that a shown picture may be away from its frame; beyond, the video has a hole there."""
LEAST_RATE = 10.0
"""Pictures a second, on average, from which lips can be followed."""
MOST_APART = 3.0
"""Seconds that pictures and sound may differ in length; beyond it one of them was cut off or has a wrong rate."""


@dataclass
class Outcome:
    """What became of a source: kept clips (their split is set later), rejections, seconds of video that was looked at.

    ``times`` are seconds of work by what was done; ``gave_up``: its process crashed or was stopped, so that files of it may
    lie about.
    """

    records: list[ClipRecord] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    gave_up: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """Inverse of ``asdict``."""
        records = [ClipRecord(**record) for record in values["records"]]
        rejections = [Rejection(**rejection) for rejection in values["rejections"]]
        return cls(**values | {"records": records, "rejections": rejections})


def prepare_source(
    source: Source, output: Path, settings: PreparationSettings, measure_sync: SyncMeasure | None = None
) -> Outcome:
    """Cut all clips out of a source and write them below ``output/clips``, which exists; what can't be used is listed.

    Raises:
        MissingAssetError: The model file of the face landmarker is absent.
        MissingLibraryError: A system library that MediaPipe needs is absent.
    """
    work = _Work(source, output, settings, measure_sync)
    if (source.spans or not source.rejected) and (opened := work.open()) is not None:
        for span in source.spans or (Span(source.id, 0.0, None),):
            work.prepare_span(opened, span)
    return work.outcome


PrepareOne = Callable[[Source, Path, PreparationSettings, SyncMeasure | None], Outcome]
"""``prepare_source``, or what stands in for it."""


def prepare_safely(
    source: Source,
    output: Path,
    settings: PreparationSettings,
    measure_sync: SyncMeasure | None = None,
    prepare_one: PrepareOne = prepare_source,
) -> Outcome:
    """``prepare_one``, with whatever else a broken file makes a decoder raise as a rejection.

    Raises:
        UserError: The machine is at fault, not the video: a part of the installation is missing, the disk is full, ...
    """
    try:
        return prepare_one(source, output, settings, measure_sync)
    except UserError:
        raise
    except Exception as error:
        detail = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in FAULTS_OF_MACHINE:
            raise UserError(f"{source.name}: {detail}; mend that and run the same command again") from error
        return Outcome(rejections=[Rejection(source.name, "not readable", detail)], gave_up=True)


class _Work:
    """A source on its way to clips; what is found goes into ``outcome``."""

    def __init__(
        self, source: Source, output: Path, settings: PreparationSettings, measure_sync: SyncMeasure | None
    ) -> None:
        self.source, self.output, self.settings, self.measure_sync = source, output, settings, measure_sync
        self.outcome = Outcome(rejections=list(source.rejected))
        self._last = time.monotonic()

    def _lap(self, what: str) -> None:
        """Add the time since the last call to what ``what`` takes."""
        now = time.monotonic()
        self.outcome.times[what] = round(self.outcome.times.get(what, 0.0) + now - self._last, 3)
        self._last = now

    def _reject(self, reason: str, detail: str | Exception, **where: Any) -> None:
        """List the source, or the part of it that ``where`` names (clip, start, end); paths are shortened to file names."""
        text = str(detail)
        for path in (self.source.video, self.source.sound):
            if path is not None:
                text = text.replace(str(path), path.name)
        self.outcome.rejections.append(Rejection(self.source.name, reason, text, **where))

    def open(self) -> OpenSource | None:
        """Index the pictures and read the sound; None where that is enough to reject the source."""
        try:
            reader = VideoReader(self.source.video, strict=True)
        except UserError as error:
            self._reject("not readable", error)
            return None
        if reader.info.fps < LEAST_RATE:
            self._reject("too few pictures", f"{reader.info.fps:.1f} pictures a second")
            return None
        stored = reader.at_rate()
        self._lap("indexing")
        waveform = None
        try:
            waveform = load_audio(self.source.sound or self.source.video, strict=True)
        except UserError as error:
            if self.settings.require_sound:
                self._reject("no sound" if "no sound track" in str(error) else "sound not readable", error)
                return None
        self._lap("sound")
        if waveform is not None:
            pictures, sound = len(stored) / FPS, len(waveform) / SAMPLE_RATE
            if abs(pictures - sound) > MOST_APART:
                if self.settings.require_sound:
                    told = f"pictures of {pictures:.1f} s with sound of {sound:.1f} s"
                    self._reject("lengths differ", told)
                    return None
                waveform = None
        return OpenSource(self.source, reader, stored, waveform)

    def prepare_span(self, opened: OpenSource, span: Span) -> None:
        """Cut one listed clip, or the whole video, into segments and write those that are fit."""
        length, first = len(opened.shown), round(span.start * FPS)
        last = length if span.end is None else max(first, min(length, round(span.end * FPS)))
        listed = span.id if self.source.spans else None
        whole: dict[str, Any] = {"clip": listed, "start": first / FPS, "end": last / FPS}
        if span.end is not None and span.end - length / FPS > 1.0:
            told = f"the video ends at {length / FPS:.1f} s, the clip is listed to {span.end:.1f} s"
            self._reject("video too short", told, clip=listed, start=length / FPS, end=span.end)
            if first >= length:
                return
        if last - first < self.settings.min_seconds * FPS:
            self._reject("too short", f"{max(0, last - first) / FPS:.2f} s of video in this span", **whole)
            return
        self.outcome.seconds += (last - first) / FPS
        try:
            frames, holes = opened.frames(first, last), opened.holes(first, last, FREEZE)
            detections = detect(frames).without(holes)
        except DamagedVideoError as error:
            self._reject("not readable", error, **whole)
            return
        self._lap("looking")
        info = opened.reader.info
        found = list(Segmenter(detections, span, info.height, info.width, self.settings).segments())
        alone = len(found) == 1 and listed is not None
        for number, segment in enumerate(found):
            start = first + segment.first
            end = start + segment.frames
            place: dict[str, Any] = {"clip": listed, "start": start / FPS, "end": end / FPS}
            if isinstance(segment, Unfit):
                self._reject(segment.reason, segment.detail, **place)
                continue
            quality = quality_statistics(segment, info, opened.sound(start, segment.frames))
            if problem := quality_problem(quality, self.settings):
                self._reject(*problem, **place)
                continue
            silent = quality["loudness"] is not None and quality["loudness"] < self.settings.min_loudness
            heard = replace(opened, waveform=None) if silent else opened
            clip = span.id if alone else f"{span.id}_{number:03d}"
            write_to = (clip, quality, self.output, self.settings.size, self.measure_sync)
            try:
                self.outcome.records.append(write_clip(heard, segment, first, *write_to))
            except DamagedVideoError as error:
                self._reject("not readable", error, **place)
            self._lap("writing")
