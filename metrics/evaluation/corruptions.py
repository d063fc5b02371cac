"""Ways to make a real clip worse by degrees, and which measures must answer to each."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from metrics.evaluation.detections import Detections
from metrics.evaluation.judges import Judges
from metrics.motion import MotionCurves, edge_frames

SIZE = 256


@dataclass(frozen=True)
class Corruption:
    """A way to make a clip worse."""

    unit: str  # of the strengths
    strengths: tuple[float, ...]  # four of them, the first leaves the clip as it is
    answers: dict[
        str, int
    ]  # measures made for it -> +1 if they must rise with the strength, -1 if they must fall


CORRUPTIONS = {
    "sound shift": Corruption(
        "frames late",
        (0, 2, 5, 10),
        {
            "av_corr_zero": -1, "av_lag": 1, "av_corr_zero_whisper": -1, "av_lag_whisper": 1, "av_offset": 1,
            "lip_closure": -1,
        },
    ),
    "freeze": Corruption(
        "share of the clip that stands still at its end",
        (0, 0.33, 0.67, 1),
        {
            "mouth_lmd": 1, "lmd": 1, "akd": 1, "psnr": -1, "ssim": -1, "l1": 1, "lpips": 1, "av_corr": -1,
            "av_corr_whisper": -1, "av_retrieval": -1, "lse_c": -1, "lse_d": 1, "motion_frechet": 1, "mouth_motion": -1,
            "head_motion": -1, "fvd": 1, "blink_rate": -1, "blinks_followed": -1,
        },
    ),
    "slowed": Corruption(
        "share of the tempo that is lost",
        (0, 0.25, 0.5, 0.75),
        {
            "head_velocity_distance": 1, "head_spectrum_distance": 1, "motion_frechet": 1, "blink_rate": -1,
            "blink_interval_distance": 1,
        },
    ),
    "blur": Corruption(
        f"sigma in pixels at {SIZE}",
        (0, 1, 2, 4),
        {
            "sharpness_mouth": -1, "sharpness_eyes": -1, "sharpness": -1, "psnr": -1, "ssim": -1, "l1": 1,
            "lpips": 1, "csim": -1, "aed": 1,
            "fid": 1, "kid": 1, "fd_efficientnet_lite0": 1, "fvd": 1,
        },
    ),
    "landmark noise": Corruption(
        f"pixels at {SIZE}", (0, 0.5, 1, 2), {"jitter": 1, "mouth_lmd": 1, "lmd": 1, "akd": 1, "motion_frechet": 1}
    ),
    "shaking frame": Corruption(
        f"pixels at {SIZE}",
        (0, 1, 2, 4),
        {"jitter": 1, "akd": 1, "flicker": 1, "psnr": -1, "ssim": -1, "l1": 1, "lpips": 1, "fvd": 1},
    ),
    "seams": Corruption(
        "frames that every second window is ahead", (0, 2, 5, 10), {"edge_steps": 1, "edge_step_ratio": 1}
    ),
    "identity swap": Corruption(
        "share of frames",
        (0, 0.25, 0.5, 1),
        {
            "csim": -1, "aed": 1, "lmd": 1, "mouth_lmd": 1, "akd": 1, "psnr": -1, "ssim": -1, "l1": 1, "lpips": 1,
        },
    ),
}  # fmt: skip


def blurred(frames: Tensor, sigma: float) -> np.ndarray:
    """Frames ``(T, 3, H, W)`` uint8 after a Gaussian, as ``(T, H, W, 3)`` uint8."""
    images = frames.permute(0, 2, 3, 1).numpy()
    return np.stack([gaussian_filter(image, (sigma, sigma, 0)) for image in images])


def noisy_landmarks(clip: Detections, pixels: float) -> Detections:
    """The clip with white noise on every landmark, as a worse detector would see it."""
    if clip.raw_landmarks is None:
        return clip
    noise = np.random.default_rng(0).normal(0, pixels, clip.raw_landmarks.shape)
    return replace(clip, raw_landmarks=clip.raw_landmarks + noise)


def shaken(clip: Detections, pixels: float) -> Detections:
    """Every frame moved by its own whole number of pixels."""
    moves = np.random.default_rng(0).normal(0, pixels, (len(clip), 2)).round().astype(int)
    pairs = zip(clip.frames, moves.tolist(), strict=True)
    frames = torch.stack([torch.roll(frame, (y, x), (1, 2)) for frame, (x, y) in pairs])
    points = clip.raw_landmarks
    points = None if points is None else points + np.pad(moves, ((0, 0), (0, 1)))[:, None]
    return replace(clip, frames=frames, raw_landmarks=points)


def swapped(clip: Detections, other: Detections, share: float) -> Detections:
    """The clip with a share of its frames, spread evenly, from another clip."""
    every = np.arange(min(len(clip), len(other)))
    foreign = np.floor((every + 1) * share) > np.floor(every * share)
    base, guest = clip.select(every), other.select(every)
    if base.frames.shape != guest.frames.shape or base.raw_landmarks is None or guest.raw_landmarks is None:
        return base

    def mixed(first: Any, second: Any) -> Any:
        if first is None or second is None:
            return None
        return np.where(foreign.reshape(-1, *[1] * (first.ndim - 1)), second, first)

    curves = MotionCurves(*map(mixed, vars(base.raw_motion).values(), vars(guest.raw_motion).values()))
    frames = torch.where(torch.from_numpy(foreign)[:, None, None, None], guest.frames, base.frames)
    points = mixed(base.raw_landmarks, guest.raw_landmarks)
    embeddings = mixed(base.raw_embeddings, guest.raw_embeddings)
    return Detections(frames, base.protocol, curves, points, embeddings)


def corrupt(name: str, strength: float, clip: Detections, other: Detections, judges: Judges) -> Detections:
    """The clip after a corruption; ``other`` shows another person. Strengths in pixels are those of a picture of 256."""
    if not strength:
        return clip
    if CORRUPTIONS[name].unit.endswith(f"at {SIZE}"):
        strength *= min(clip.frames.shape[-2:]) / SIZE
    every = np.arange(len(clip))
    match name:
        case "freeze":
            return clip.select(every.clip(max=round((1 - strength) * (len(clip) - 1))))
        case "slowed":
            return clip.select((every * (1 - strength)).astype(np.int64))
        case "seams":
            windows = np.searchsorted(edge_frames(len(clip), clip.protocol.edges), every, side="right")
            ahead = windows % 2 * round(strength)
            return clip.select((every + ahead).clip(max=len(clip) - 1))
        case "blur":
            return judges.detect(blurred(clip.frames, strength), clip.protocol)
        case "landmark noise":
            return noisy_landmarks(clip, strength)
        case "shaking frame":
            return shaken(clip, strength)
        case "identity swap":
            return swapped(clip, other, strength)
    return clip
