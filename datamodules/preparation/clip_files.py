"""A piece of a video as the files of a clip, if it is fit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.clips.annotations import write_annotations
from datamodules.clips.manifest import ClipRecord, file_sha256
from datamodules.faces.framing import crop_square, outside_share
from datamodules.media.audio import fit_length, load_audio, write_wav
from datamodules.media.playback import play
from datamodules.media.video import VideoReader, write_video
from datamodules.preparation.measured import annotations_of
from datamodules.preparation.pieces import Piece
from datamodules.preparation.quality import cut_share, loudness, pose_range
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import Source

SyncMeasure = Callable[[np.ndarray, np.ndarray], tuple[int, float]]
"""From frames ``(T, S, S, 3)`` uint8 and sound ``(640 T,)`` to the frames that the sound is late by, and a confidence."""


@dataclass(frozen=True)
class OpenSource:
    """A source that is being read, with its sound ``(S,)`` at 16 kHz if it has any.

    ``shown`` is the number of the stored picture that is shown in each frame at 25 fps.
    """

    source: Source
    reader: VideoReader
    shown: np.ndarray
    waveform: np.ndarray | None

    def frames(self, first: int, end: int) -> Iterator[np.ndarray]:
        """Pictures ``(H, W, 3)`` of the frames at 25 fps from ``first`` to before ``end``."""
        return play(self.reader, self.shown[first:end])

    def holes(self, first: int, end: int, most: float) -> np.ndarray:
        """Of the frames from ``first`` to before ``end``: those whose picture is more than ``most`` seconds away."""
        away = self.reader.times[self.shown[first:end]] - np.arange(first, end) / FPS
        return np.flatnonzero(np.abs(away) > most)

    def sound(self, first: int, frames: int) -> np.ndarray | None:
        """Sound of a run of frames, ``(640 frames,)``."""
        if self.waveform is None:
            return None
        begin = first * SAMPLES_PER_FRAME
        return fit_length(self.waveform[begin : begin + frames * SAMPLES_PER_FRAME], frames)


def quality_of(opened: OpenSource, piece: Piece, sound: np.ndarray | None) -> dict[str, Any]:
    """Measures of a piece, as they stand in the manifest."""
    info = opened.reader.info
    sides = [seen.box.side for seen in piece.track.faces]
    sharp = [seen.sharpness for seen in piece.track.faces if seen.sharpness is not None]
    return {
        "face": round(float(np.median(sides)), 1),
        "sharpness": round(float(np.median(sharp)), 2) if sharp else None,
        "tracked": round(len(piece.track.frames) / piece.frames, 4),
        "company": round(piece.company, 4),
        "outside": round(outside_share(piece.crop, info.height, info.width), 4),
        "cut": round(cut_share(piece.track, info.height, info.width), 4),
        "loudness": None if sound is None else round(loudness(sound), 2),
        "av_offset": None,
        "sync_confidence": None,
        "source_fps": round(info.fps, 3),
        "source_height": info.height,
        **pose_range(piece.track),
    }


def problem_of(quality: dict[str, Any], settings: PreparationSettings) -> tuple[str, str] | None:
    """Reason and detail why a piece of this quality is not kept, or None."""
    sharp, level = quality["sharpness"], quality["loudness"]
    if quality["face"] < settings.min_face:
        return "face too small", f"{quality['face']:.0f} pixels"
    if quality["tracked"] < settings.min_tracked:
        return "face not tracked", f"seen in {quality['tracked']:.0%} of the frames"
    if quality["company"] > settings.max_company:
        return "several faces", f"another large face in {quality['company']:.0%} of the frames"
    if quality["outside"] > settings.max_outside:
        return "face at the edge", f"{quality['outside']:.0%} of the crop lies outside"
    if quality["cut"] > settings.max_cut:
        return "face at the edge", f"{quality['cut']:.0%} of the face lie outside the picture"
    if sharp is not None and sharp < settings.min_sharpness:
        return "blurred", f"sharpness {sharp:.1f}"
    if settings.require_sound and level is not None and level < settings.min_loudness:
        return "silent", f"{level:.1f} dB"
    return None


def write_clip(
    opened: OpenSource,
    piece: Piece,
    first: int,
    clip: str,
    quality: dict[str, Any],
    output: Path,
    size: int,
    measure_sync: SyncMeasure | None,
) -> ClipRecord:
    """Write video (``size`` pixels wide), sound and annotations of a piece as ``output/clips/CLIP``.

    ``first`` is the frame of the video that the piece counts from; offset and confidence of its sound are filled into
    ``quality`` where they are measured. UserError where the video is damaged.
    """
    begin, crop = first + piece.first, piece.crop
    stem, video = f"clips/{clip}", output / f"clips/{clip}.mp4"
    sound = opened.sound(begin, piece.frames)
    cropped = (crop_square(frame, crop, size) for frame in opened.frames(begin, begin + piece.frames))
    write_video(video, cropped, threads=1)
    if sound is not None:
        write_wav(output / f"{stem}.wav", sound)
        if measure_sync is not None:
            frames = VideoReader(video).get(np.arange(piece.frames))
            late, confidence = measure_sync(frames, load_audio(output / f"{stem}.wav"))
            sure = float(confidence) if np.isfinite(confidence) else None
            quality = quality | {"av_offset": int(late), "sync_confidence": sure}
    arrays, metadata = annotations_of(piece.track, piece.first, piece.frames, crop)
    write_annotations(output / f"{stem}.safetensors", arrays, metadata)
    edges = (crop.x, crop.y, crop.x + crop.side, crop.y + crop.side)
    return ClipRecord(
        id=clip,
        video=f"{stem}.mp4",
        audio=None if sound is None else f"{stem}.wav",
        sha256=file_sha256(video),
        identity=opened.source.identity,
        voice=opened.source.identity,
        split="train",  # settled when all identities are known
        source=opened.source.name,
        start=begin / FPS,
        frames=piece.frames,
        size=size,
        crop=[round(float(edge), 3) for edge in edges],
        quality=quality,
        annotations=f"{stem}.safetensors",
    )
