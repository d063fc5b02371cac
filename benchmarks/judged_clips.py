"""What MediaPipe's face landmarks see in a clip, framed as every model of this project sees a face."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.batches import FPS
from datamodules.faces.finding import FaceBox, find_faces
from datamodules.faces.framing import SquareCrop, framing
from datamodules.faces.landmarks import FaceMeasurements, measure_landmarks
from datamodules.media.video import VideoReader
from metrics.landmarks import FACE
from metrics.motion import blink_rate, head_motion, jitter, mouth_motion

SIZE = 256
STEP = 5  # frames that head speed is taken over: shorter steps measure the noise of the landmarks

_LOOKS = 5  # frames that the face is looked for in, evenly over the clip
_CHUNK = 25  # frames decoded at a time
_SHORTEST = 3.0  # seconds
_SLOWEST = 20.0  # stored pictures a second: below, repeated pictures pass for trembling
_FOUND = 0.9  # least share of frames with a face
_SECOND_FACE = 0.5  # of the side of the largest: a smaller one stands in the background
_JUMP = 0.6  # eye distances that no head moves by in a frame: a cut


class UnfitClipError(Exception):
    """A clip that motion cannot be measured on; the message says why."""


@dataclass(frozen=True)
class JudgedClip:
    """Curves of one clip at 25 fps; NaN on frames without a face."""

    rotation: np.ndarray  # ``(T, 3)`` yaw, pitch, roll in degrees
    lip_opening: np.ndarray  # ``(T,)`` inner-lip gap over the distance of the outer eye corners
    blink: np.ndarray  # ``(T,)`` 0 open .. 1 closed
    rigid: np.ndarray  # ``(T, 16)`` x and y of the rigid landmarks over the distance of the outer eye corners


def judge_clip(path: Path, seconds: float) -> JudgedClip:
    """Measure the first ``seconds`` of a video, each frame by itself, at 25 fps and 256 px.

    Raises:
        UnfitClipError: Too short, too few pictures a second, hardly a face, several faces, or a cut.
    """
    reader = VideoReader(path)
    if reader.info.duration < _SHORTEST:
        raise UnfitClipError(f"shorter than {_SHORTEST:g} s")
    if reader.info.fps < _SLOWEST:
        raise UnfitClipError(f"{reader.info.fps:.0f} pictures a second")
    indices = reader.at_rate()[: round(seconds * FPS)]
    crop = framing(
        _usual_box(reader.get(indices[np.linspace(0, len(indices) - 1, _LOOKS).round().astype(int)]))
    )
    frames = (
        _cut_out(frame, crop)
        for start in range(0, len(indices), _CHUNK)
        for frame in reader.get(indices[start : start + _CHUNK])
    )
    return curves_of(measure_landmarks(frames))


def curves_of(seen: FaceMeasurements) -> JudgedClip:
    """Curves of landmarks seen in square frames.

    Raises:
        UnfitClipError: A face in too few frames, or a cut.
    """
    if seen.found.mean() < _FOUND:
        raise UnfitClipError(f"face in {seen.found.mean():.0%} of the frames")
    points = seen.landmarks[:, :, :2]  # (T, 478, 2) in shares of the side
    (left, right), (upper, lower) = FACE.eye_corners, FACE.lips
    eyes = points[:, left] - points[:, right]
    points = points / np.nanmean(np.linalg.norm(eyes, axis=1))
    rigid = points[:, FACE.rigid]
    if np.nanmax(np.linalg.norm(np.diff(rigid.mean(axis=1), axis=0), axis=1)) > _JUMP:
        raise UnfitClipError("a cut")
    return JudgedClip(
        rotation=seen.rotation,
        lip_opening=np.linalg.norm(points[:, upper] - points[:, lower], axis=1),
        blink=seen.blink,
        rigid=rigid.reshape(len(rigid), -1),
    )


def measures_of(clip: JudgedClip) -> dict[str, float]:
    """Scalars of one clip, named with their units; rest pose is the mean over the clip."""
    speed = head_speed(clip.rotation)
    std, rest = np.nanstd(clip.rotation, axis=0), np.nanmean(clip.rotation, axis=0)
    turn = max(std[0], 1e-6)  # a still head has no shares
    return {
        "head_motion (deg)": head_motion(clip.rotation),
        "yaw std (deg)": float(std[0]),
        "pitch std (deg)": float(std[1]),
        "roll std (deg)": float(std[2]),
        "pitch std / yaw std": float(std[1] / turn),
        "roll std / yaw std": float(std[2] / turn),
        "head speed, median (deg/s)": float(np.nanmedian(speed)),
        "head speed, 95 % (deg/s)": float(np.nanpercentile(speed, 95)),
        "head tempo (Hz)": float(np.sqrt(np.nanmean(speed**2) / (std**2).sum()) / (2 * np.pi)),
        "rest yaw (deg)": float(rest[0]),
        "rest pitch (deg)": float(rest[1]),
        "rest roll (deg)": float(rest[2]),
        "mouth_motion (eye distances)": mouth_motion(clip.lip_opening),
        "lip opening, median (eye distances)": float(np.nanmedian(clip.lip_opening)),
        "lip opening, 95 % (eye distances)": float(np.nanpercentile(clip.lip_opening, 95)),
        "blink_rate (1/min)": blink_rate(clip.blink),
        "jitter (1/1000 eye distance)": 1000 * jitter(clip.rigid),
    }


def head_speed(rotation: np.ndarray) -> np.ndarray:
    """Speed of the head over steps of 0.2 s, ``(T - 5,)`` degrees per second: root of the sum over the axes."""
    return np.linalg.norm(rotation[STEP:] - rotation[:-STEP], axis=1) * FPS / STEP


def _usual_box(frames: np.ndarray) -> FaceBox:
    """Median box of the one face in some frames ``(N, H, W, 3)`` uint8 RGB of a clip."""
    found = [sorted(find_faces(frame), key=lambda box: -box.side) for frame in frames]
    found = [boxes for boxes in found if boxes]
    if 2 * len(found) < len(frames):
        raise UnfitClipError("no face in most frames looked at")
    crowded = [len(boxes) > 1 and boxes[1].side > _SECOND_FACE * boxes[0].side for boxes in found]
    if 2 * sum(crowded) > len(found):
        raise UnfitClipError("several faces")
    corners = np.median([boxes[0] for boxes in found], axis=0)
    left, top, right, bottom = (float(corner) for corner in corners)
    return FaceBox(left, top, right, bottom)


def _cut_out(frame: np.ndarray, crop: SquareCrop) -> np.ndarray:
    """The square of a frame ``(H, W, 3)`` uint8 RGB, ``(256, 256, 3)``; the picture's edge goes on beyond it.

    Ten times faster than `datamodules.faces.framing.crop_square`, which also blurs what lies beyond.
    """
    side = round(crop.side)
    rows = (round(crop.y) + np.arange(side)).clip(0, frame.shape[0] - 1)
    columns = (round(crop.x) + np.arange(side)).clip(0, frame.shape[1] - 1)
    square = Image.fromarray(frame[rows[:, None], columns])
    return np.array(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
