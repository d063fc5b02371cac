"""Sharpness of whole frames, mouth and eyes, and flicker; of the face while landmarks hold it still."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import savgol_filter
from torch import Tensor
from torch.nn.functional import interpolate

from metrics.alignment import Similarity, cut_aligned, fit_similarity
from metrics.checks import as_uint8, as_uint8_pair
from metrics.landmarks import FACE, LandmarkSettings, face_boxes

_LUMA = (0.299, 0.587, 0.114)
_CHUNK = 16
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class StillFaceSettings:
    """The square in which a face is held still."""

    side: int = 192  # of the square in pixels
    eyes_apart: float = 80.0  # pixels between the outer eye corners
    eyes_at: tuple[float, float] = (0.5, 0.36)  # middle between them, x and y as shares of the side
    smoothing: int = 9  # frames of the filter over time: the landmarks' noise must not shake what is compared
    order: int = 2  # of the polynomial in the filter


@dataclass(frozen=True)
class SharpnessSettings:
    """Where sharpness is measured in a face that is held still."""

    mouth: Region = (0.30, 0.62, 0.70, 0.88)  # x0, y0, x1, y1 as shares of the side
    eyes: Region = (0.22, 0.26, 0.78, 0.46)  # likewise


@dataclass(frozen=True)
class FineDetailSettings:
    """How the detail of a face is held against a portrait of any size and crop."""

    width: int = 192  # pixels that the landmarks' box is brought to
    height: int = 240  # likewise
    sigma: float = 1.5  # of the Gaussian blur that the detail is the difference to, in pixels
    frames: int = 12  # of a video that are looked at


def hold_still(
    frames: Tensor,
    points: np.ndarray,
    settings: StillFaceSettings = StillFaceSettings(),
    landmarks: LandmarkSettings = FACE,
) -> Tensor:
    """Faces in a square of 192 pixels, turned upright, eyes 80 pixels apart; by smoothed rigid landmarks.

    ``(N, S, S)`` float32 luma in 0..255, of frames ``(T, 3, H, W)``, uint8 or float in [-1, 1], with landmarks
    ``(T, 478, 3)`` in pixels; the T - N frames with NaN are left out.
    """
    side = settings.side
    known = np.isfinite(points).all(axis=(1, 2))
    rigid = points[known][:, landmarks.rigid, :2]
    if not len(rigid):
        return torch.empty(0, side, side)
    middle = rigid.mean(axis=0)
    left, right = middle[0], middle[3]  # outer eye corners
    turn = np.arctan2(*(right - left)[::-1])
    upright = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    scale = settings.eyes_apart / np.linalg.norm(right - left)
    target = (middle - (left + right) / 2) @ upright.T * scale + np.array(settings.eyes_at) * side
    found = fit_similarity(rigid, target)
    moved = Similarity(_smoothed(found.matrix, settings), _smoothed(found.shift, settings))
    faces = cut_aligned(as_uint8(frames)[torch.from_numpy(known)], moved, side)
    return _luma(faces)


def _smoothed(values: np.ndarray, settings: StillFaceSettings) -> np.ndarray:
    """Values over time ``(T, ...)`` after a Savitzky-Golay filter; fewer than its frames stay as they are."""
    length = settings.smoothing
    return values if len(values) < length else savgol_filter(values, length, settings.order, axis=0)


def cut(faces: Tensor, region: Region) -> Tensor:
    """A region of held faces ``(N, S, S)``."""
    x0, y0, x1, y1 = (round(share * faces.shape[-1]) for share in region)
    return faces[:, y0:y1, x0:x1]


def _laplacian(patch: Tensor) -> Tensor:
    """What a 3x3 Laplacian sees in ``(N, h, w)``, ``(N, h - 2, w - 2)``."""
    inner = patch[:, 1:-1, 1:-1]
    around = patch[:, :-2, 1:-1] + patch[:, 2:, 1:-1] + patch[:, 1:-1, :-2] + patch[:, 1:-1, 2:]
    return inner - around / 4


def detail(patch: Tensor) -> float:
    """Root mean square of what a 3x3 Laplacian sees in ``(N, h, w)``, in grey levels; NaN without a frame."""
    return float(_laplacian(patch).square().mean().sqrt()) if len(patch) else float("nan")


def frame_sharpness(frames: Tensor, real: Tensor) -> float:
    """Detail of whole frames as a share of the real clip's, with or without a face in them.

    Of frames ``(T, 3, H, W)``, uint8 or float in [-1, 1], of one size, as detail is counted in pixels; errors as of
    `as_uint8_pair`. Below 1 blurred, above 1 sharpened or noisy; NaN where the real clip has no detail.
    """
    energy, whole = map(detail_energy, as_uint8_pair(frames, real))
    return math.sqrt(energy / whole) if whole > 0 else float("nan")


def detail_energy(frames: Tensor) -> float:
    """Squares of what a 3x3 Laplacian sees in the grey levels of ``(N, 3, H, W)``, uint8 or float in [-1, 1], summed."""
    parts = as_uint8(frames).split(_CHUNK)
    return sum(float(_laplacian(_luma(part.float())).double().square().sum()) for part in parts)


def sharpness(
    generated: Tensor, real: Tensor, settings: SharpnessSettings = SharpnessSettings()
) -> dict[str, float]:
    """Detail of mouth and eyes as a share of the real clip's: below 1 blurred, above 1 sharpened or noisy.

    ``sharpness_mouth`` and ``sharpness_eyes`` of faces ``(N, S, S)`` that `hold_still` gave; NaN where a side has no
    face, or the real one no detail.
    """
    values = {}
    for name, region in vars(settings).items():
        whole = detail(cut(real, region))
        values[f"sharpness_{name}"] = detail(cut(generated, region)) / whole if whole > 0 else float("nan")
    return values


def fine_detail(
    frames: Tensor,
    points: np.ndarray,
    portrait: Tensor,
    portrait_points: np.ndarray,
    settings: FineDetailSettings = FineDetailSettings(),
    landmarks: LandmarkSettings = FACE,
) -> float:
    """Detail of a video's face as a share of the portrait's, whatever their sizes: below 1 blurred, above 1 noisy.

    Mean absolute difference of the grey face and its blur over its standard deviation + 1, in 8-bit levels; of a video its
    mean over twelve frames with a face. The first frame of ``portrait`` counts.

    Args:
        frames: ``(T, 3, H, W)`` uint8, or float in [-1, 1].
        points: ``(T, 478, 3)`` their landmarks in pixels; NaN without a face.
        portrait: ``(N, 3, H', W')`` likewise.
        portrait_points: ``(N, 478, 3)`` likewise.
        settings: How it is looked at.
        landmarks: Which of them are the face.

    Returns:
        NaN where one side has no face, or the portrait no detail.
    """
    seen = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    known = np.isfinite(portrait_points[:1]).all()
    if not len(seen) or not known:
        return float("nan")
    looks = seen[np.linspace(0, len(seen) - 1, min(len(seen), settings.frames)).round().astype(int)]
    whole = _face_detail(portrait[0], portrait_points[0], settings, landmarks)
    shown = [_face_detail(frames[int(look)], points[look], settings, landmarks) for look in looks]
    return float(np.mean(shown)) / whole if whole > 0 else float("nan")


def _face_detail(
    frame: Tensor, points: np.ndarray, settings: FineDetailSettings, landmarks: LandmarkSettings
) -> float:
    """Detail of the face with landmarks ``(478, 3)`` in ``(3, H, W)``; NaN where the frame cuts it off."""
    left, top, right, bottom = face_boxes(points[None], landmarks)[0].round().astype(int).tolist()
    face = _luma(as_uint8(frame[None, :, max(top, 0) : bottom, max(left, 0) : right]).float())
    if not face.numel():
        return float("nan")
    size = (settings.height, settings.width)
    resized = interpolate(face[None], size, mode="bilinear", antialias=True, align_corners=False)
    grey = resized[0, 0].double().numpy()
    return float(np.abs(grey - gaussian_filter(grey, settings.sigma)).mean() / (grey.std() + 1))


def _luma(images: Tensor) -> Tensor:
    """Luma ``(T, H, W)`` of ``(T, 3, H, W)``."""
    return torch.einsum("tchw,c->thw", images, torch.tensor(_LUMA, device=images.device))


def flicker(faces: Tensor, places: np.ndarray | None = None) -> float:
    """Change from frame to frame that no steady movement explains, in grey levels.

    Mean absolute difference of each frame and the mean of its neighbours, on faces held still: the head's movement is
    taken out by one similarity a frame, and no optical flow is used, so fast lips and turning heads count a little too.
    Compare with the real clip's value.

    Args:
        faces: ``(N, S, S)`` that `hold_still` gave.
        places: ``(N,)`` which frames of the clip they are, where some show no face: those beside a gap have no neighbours.
            None: one after the other.

    Returns:
        NaN without three frames in a row.
    """
    if len(faces) < 3:
        return float("nan")
    change = (faces[1:-1] - (faces[:-2] + faces[2:]) / 2).abs().mean(dim=(1, 2))
    if places is not None:
        change = change[torch.from_numpy(places[2:] - places[:-2] == 2)]
    return float(change.mean())  # of nothing: NaN
