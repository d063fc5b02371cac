"""The files of a clip: video, sound, and what was detected of its face as annotations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.clips.annotations import write_annotations
from datamodules.clips.manifest import ClipRecord, file_sha256
from datamodules.faces.framing import crop_square
from datamodules.media.audio import fit_length, load_audio, write_wav
from datamodules.media.video import VideoReader, write_video
from datamodules.preparation.segments import Segment
from datamodules.preparation.sources import Source

# Numbers of MediaPipe's face mesh; left and right are the person's.
UPPER_LIP, LOWER_LIP = 13, 14
MOUTH_CORNERS = (61, 291)
OUTER_EYE_CORNERS = (33, 263)
REGION_POINTS = {
    "mouth": (61, 291, 0, 17, 37, 267, 84, 314),
    "left_eye": (263, 362, 386, 374, 385, 380),
    "right_eye": (33, 133, 159, 145, 158, 153),
}
MARGIN = 0.45
"""Of a region's width, on each side; half of it above and below."""

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
        return self.reader.frames(self.shown[first:end])

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


def write_clip(
    opened: OpenSource,
    segment: Segment,
    first: int,
    clip: str,
    quality: dict[str, Any],
    output: Path,
    size: int,
    measure_sync: SyncMeasure | None,
) -> ClipRecord:
    """Write video (``size`` pixels wide), sound and annotations of a segment as ``output/clips/CLIP``.

    ``first`` is the frame of the video that the segment counts from; offset and confidence of its sound are filled into
    ``quality`` where they are measured. UserError where the video is damaged.
    """
    begin, crop = first + segment.first, segment.crop
    stem, video = f"clips/{clip}", output / f"clips/{clip}.mp4"
    sound = opened.sound(begin, segment.frames)
    cropped = (crop_square(frame, crop, size) for frame in opened.frames(begin, begin + segment.frames))
    write_video(video, cropped, threads=1)
    if sound is not None:
        write_wav(output / f"{stem}.wav", sound)
        if measure_sync is not None:
            frames = VideoReader(video).get(np.arange(segment.frames))
            late, confidence = measure_sync(frames, load_audio(output / f"{stem}.wav"))
            sure = float(confidence) if np.isfinite(confidence) else None
            quality = quality | {"av_offset": int(late), "sync_confidence": sure}
    metadata = {"landmark_names": "mediapipe face mesh, 478 points"}
    write_annotations(output / f"{stem}.safetensors", face_annotations(segment), metadata)
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
        frames=segment.frames,
        size=size,
        crop=[round(float(edge), 3) for edge in edges],
        quality=quality,
        annotations=f"{stem}.safetensors",
    )


def face_annotations(segment: Segment) -> dict[str, np.ndarray]:
    """Arrays for ``write_annotations``; frames in which the face was lost hold values between neighbours'."""
    track, frames, crop = segment.track, segment.frames, segment.crop
    every = np.arange(segment.first, segment.first + frames)

    def over_time(name: str) -> np.ndarray:
        values = [getattr(face, name) for face in track.faces]
        known = np.array(values, dtype=np.float64).reshape(len(track.frames), -1)
        columns = [np.interp(every, track.frames, column) for column in known.T]
        return np.stack(columns, axis=1).astype(np.float32)

    points = (over_time("landmarks").reshape(frames, -1, 2) - np.array([crop.x, crop.y])) / crop.side

    def distance(first: int, second: int) -> np.ndarray:
        return np.linalg.norm(points[:, first] - points[:, second], axis=1)

    unit = max(float(np.median(distance(*OUTER_EYE_CORNERS))), 1e-6)
    arrays = {
        "rotation": over_time("rotation"),
        "blink": over_time("blink")[:, 0],
        "landmarks": points,
        "lip_opening": distance(UPPER_LIP, LOWER_LIP) / unit,
        "lip_width": distance(*MOUTH_CORNERS) / unit,
        "regions": np.stack([_box(points[:, list(group)]) for group in REGION_POINTS.values()], axis=1),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _box(points: np.ndarray) -> np.ndarray:
    """``(T, 4)`` boxes in [0, 1] round points ``(T, N, 2)``, with a margin."""
    low, high = points.min(axis=1), points.max(axis=1)
    margin = MARGIN * (high - low)[:, :1] * np.array([[1.0, 0.5]])
    return np.concatenate([low - margin, high + margin], axis=1).clip(0, 1)
