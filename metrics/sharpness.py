"""Sharpness of mouth and eyes, and flicker, on faces that landmarks hold still."""

import numpy as np
import torch
from scipy.signal import savgol_filter
from torch import Tensor

from metrics.alignment import Similarity, cut_aligned, fit_similarity
from metrics.base import ClipValues, MeanOfClips
from metrics.landmarks import RIGID
from metrics.reconstruction import as_uint8

FACE = 192
"""Side in pixels of the square in which the face is held still."""
_EYES_APART = 80.0  # pixels between the outer eye corners there
_REGIONS = {"mouth": (0.30, 0.62, 0.70, 0.88), "eyes": (0.22, 0.26, 0.78, 0.46)}
_SMOOTHING = 9  # frames: the landmarks' noise must not shake the faces that are compared
_GREY = (0.299, 0.587, 0.114)


def hold_still(frames: Tensor, points: np.ndarray) -> Tensor:
    """Faces in a square of 192 pixels, turned upright, eyes 80 pixels apart; by smoothed rigid landmarks.

    Args:
        frames: ``(T, 3, H, W)`` uint8, or float in [-1, 1].
        points: ``(T, 478, 3)`` landmarks in pixels; frames with NaN are left out.

    Returns:
        ``(N, FACE, FACE)`` float32 luma in 0..255 of the N frames with a face.
    """
    known = np.isfinite(points).all(axis=(1, 2))
    rigid = points[known][:, RIGID, :2]
    if not len(rigid):
        return torch.empty(0, FACE, FACE)
    middle = rigid.mean(axis=0)
    left, right = middle[0], middle[3]  # outer eye corners
    turn = np.arctan2(*(right - left)[::-1])
    upright = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    scale = _EYES_APART / np.linalg.norm(right - left)
    target = (middle - (left + right) / 2) @ upright.T * scale + np.array([0.5, 0.36]) * FACE
    found = fit_similarity(rigid, target)
    moved = Similarity(_smoothed(found.matrix), _smoothed(found.shift))
    faces = cut_aligned(as_uint8(frames)[torch.from_numpy(known)], moved, FACE)
    return torch.einsum("tchw,c->thw", faces, torch.tensor(_GREY, device=faces.device))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Values over time ``(T, ...)`` after a quadratic Savitzky-Golay filter of nine frames; fewer stay as they are."""
    return values if len(values) < _SMOOTHING else savgol_filter(values, _SMOOTHING, 2, axis=0)


def region(faces: Tensor, name: str) -> Tensor:
    """The ``mouth`` or ``eyes`` of held faces ``(N, FACE, FACE)``."""
    x0, y0, x1, y1 = (round(share * FACE) for share in _REGIONS[name])
    return faces[:, y0:y1, x0:x1]


def detail(patch: Tensor) -> float:
    """Root mean square of what a 3x3 Laplacian sees in ``(N, h, w)``, in grey levels; NaN without a frame."""
    inner = patch[:, 1:-1, 1:-1]
    around = patch[:, :-2, 1:-1] + patch[:, 2:, 1:-1] + patch[:, 1:-1, :-2] + patch[:, 1:-1, 2:]
    return float((inner - around / 4).square().mean().sqrt()) if len(patch) else float("nan")


def sharpness(generated: Tensor, real: Tensor) -> dict[str, float]:
    """Detail of mouth and eyes as a share of the real clip's: below 1 blurred, above 1 sharpened or noisy.

    Args:
        generated: ``(N, FACE, FACE)`` faces that `hold_still` gave.
        real: Likewise, of the real frames.

    Returns:
        ``sharpness_mouth`` and ``sharpness_eyes``; NaN where a side has no face, or the real one no detail.
    """
    values = {}
    for name in _REGIONS:
        whole = detail(region(real, name))
        values[f"sharpness_{name}"] = detail(region(generated, name)) / whole if whole > 0 else float("nan")
    return values


def flicker(faces: Tensor, places: np.ndarray | None = None) -> float:
    """Change from frame to frame that no steady movement explains, in grey levels.

    Mean absolute difference of each frame and the mean of its neighbours, on faces held still: the head's movement is
    taken out by one similarity a frame, and no optical flow is used, so fast lips and turning heads count a little too.
    Compare with the real clip's value.

    Args:
        faces: ``(N, FACE, FACE)`` that `hold_still` gave.
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


class Sharpness(ClipValues):
    """Mean over clips of `sharpness`. 1 is as sharp as the real clip."""

    names = ("sharpness_mouth", "sharpness_eyes")

    def update(self, generated: Tensor, points: np.ndarray, real: Tensor, real_points: np.ndarray) -> None:
        """Add one clip: of both sides frames ``(T, 3, H, W)`` and landmarks ``(T, 478, 3)`` in pixels."""
        self.add(sharpness(hold_still(generated, points), hold_still(real, real_points)))


class Flicker(MeanOfClips):
    """Mean over clips of `flicker` in grey levels. 0 is steady; compare with the real clips' value."""

    def update(self, frames: Tensor, points: np.ndarray) -> None:
        """Add one clip: frames ``(T, 3, H, W)`` uint8 or float in [-1, 1], landmarks ``(T, 478, 3)`` in pixels."""
        places = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
        self.count(flicker(hold_still(frames, points), places))
