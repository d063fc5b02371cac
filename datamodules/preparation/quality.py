"""Quality statistics of a segment, as they stand in the manifest, and which of them make it unfit to learn from."""

from typing import Any

import numpy as np

from datamodules.faces.finding import MOST_ROLL
from datamodules.faces.framing import outside_share
from datamodules.media.video import VideoInfo
from datamodules.preparation.segments import Segment
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.tracking import FaceTrack

SILENCE_DB = -120.0
MOST_SIDEWAYS = 0.1
"""Share of a clip's frames in which the face may lie sideways or stand on its head."""


def quality_statistics(segment: Segment, info: VideoInfo, sound: np.ndarray | None) -> dict[str, Any]:
    """Statistics of a segment of the video ``info`` by name; its sound ``(640 T,)`` is None where there is none."""
    detections = segment.track.faces
    sharp = [face.sharpness for face in detections if face.sharpness is not None]
    sideways = np.mean([abs(face.rotation[2]) > MOST_ROLL for face in detections])
    upside_down = np.mean(
        [face.upside_down for face in detections if face.upside_down is not None] or [False]
    )
    return {
        "face": round(float(np.median([face.box.side for face in detections])), 1),
        "sharpness": round(float(np.median(sharp)), 2) if sharp else None,
        "tracked": round(len(detections) / segment.frames, 4),
        "company": round(segment.company, 4),
        "sideways": round(float(max(sideways, upside_down)), 4),
        "outside": round(outside_share(segment.crop, info.height, info.width), 4),
        "cut": round(cut_share(segment.track, info.height, info.width), 4),
        "loudness": None if sound is None else round(loudness(sound), 2),
        "av_offset": None,
        "sync_confidence": None,
        "source_fps": round(info.fps, 3),
        "source_height": info.height,
        **pose_range(segment.track),
    }


def quality_problem(quality: dict[str, Any], settings: PreparationSettings) -> tuple[str, str] | None:
    """Reason and detail why a segment of this quality is not kept, or None."""
    sharp, level = quality["sharpness"], quality["loudness"]
    if quality["face"] < settings.min_face:
        return "face too small", f"{quality['face']:.0f} pixels"
    if quality["tracked"] < settings.min_tracked:
        return "face not tracked", f"seen in {quality['tracked']:.0%} of the frames"
    if quality["sideways"] > MOST_SIDEWAYS:
        return (
            "face sideways",
            f"turned by over {MOST_ROLL:.0f} degrees in {quality['sideways']:.0%} of the frames",
        )
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


def loudness(waveform: np.ndarray) -> float:
    """Root mean square of ``(S,)`` in dB of full scale."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return max(SILENCE_DB, 10 * np.log10(power + 1e-12))


def cut_share(track: FaceTrack, height: int, width: int) -> float:
    """Share of a face's landmark box that lies outside a picture, in the worst frames (98th percentile)."""
    boxes = np.array([face.box for face in track.faces])
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shown = boxes.clip(0, [width, height, width, height])
    inside = np.prod(shown[:, 2:] - shown[:, :2], axis=1)
    return float(np.percentile(1 - inside / np.maximum(whole, 1e-6), 98))


def pose_range(track: FaceTrack) -> dict[str, list[float]]:
    """2nd and 98th percentile in degrees of each axis of the head's rotation."""
    rotation = np.stack([face.rotation for face in track.faces])
    low, high = np.percentile(rotation, [2, 98], axis=0)
    ranges = zip(("yaw", "pitch", "roll"), low.tolist(), high.tolist(), strict=True)
    return {axis: [round(a, 2), round(b, 2)] for axis, a, b in ranges}
