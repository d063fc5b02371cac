"""Similarity transforms of landmarks, and pictures cut out by them so that the face stands still."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 32
"""Frames warped at a time."""


@dataclass(frozen=True)
class Similarity:
    """One similarity transform a frame: ``points -> points @ matrix.T + shift``; NaN where none could be found."""

    matrix: np.ndarray  # (T, D, D) rotation times scale
    shift: np.ndarray  # (T, D)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Transform the points ``(T, K, D)`` of each frame."""
        return np.einsum("tij,tkj->tki", self.matrix, points) + self.shift[:, None]

    @property
    def scale(self) -> np.ndarray:
        """``(T,)`` length of a transformed unit vector."""
        return np.linalg.norm(self.matrix[:, :, 0], axis=1)


def fit_similarity(points: np.ndarray, target: np.ndarray) -> Similarity:
    """Rotation, scale and shift that bring the points of each frame closest to the target, without a reflection.

    Args:
        points: ``(T, K, D)``, D 2 or 3, K >= 2; frames with NaN get NaN.
        target: ``(K, D)`` for all frames, or ``(T, K, D)``.

    Raises:
        ValueError: The shapes don't fit.

    Source: Umeyama 1991, equations 40-42.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != target.shape[-2:]:
        raise ValueError(f"points {points.shape} cannot be brought onto {target.shape}")
    target = np.broadcast_to(np.asarray(target, dtype=np.float64), points.shape)
    count, _, axes = points.shape
    matrix, shift = np.full((count, axes, axes), np.nan), np.full((count, axes), np.nan)
    known = np.isfinite(points).all(axis=(1, 2)) & np.isfinite(target).all(axis=(1, 2))
    if known.any():
        x, y = points[known], target[known]
        mean_x, mean_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
        u, values, v = np.linalg.svd(np.einsum("tki,tkj->tij", y - mean_y, x - mean_x))
        signs = np.ones_like(values)
        signs[:, -1] = np.sign(np.linalg.det(u) * np.linalg.det(v))
        spread = ((x - mean_x) ** 2).sum(axis=(1, 2)).clip(1e-12)
        scale = (values * signs).sum(axis=1) / spread
        matrix[known] = scale[:, None, None] * (u * signs[:, None]) @ v
        shift[known] = (mean_y - np.einsum("tij,tkj->tki", matrix[known], mean_x))[:, 0]
    return Similarity(matrix, shift)


def cut_aligned(frames: Tensor, similarity: Similarity, size: int) -> Tensor:
    """The frames as a square sees them after the transform from their pixels to the square's.

    Where a frame is shrunk by two or more it is averaged over whole blocks of pixels first, so that nothing
    aliases; bilinear sampling; black outside the frame.

    Args:
        frames: ``(T, 3, H, W)`` uint8.
        similarity: T transforms in the plane, all known; the left edge of the first pixel lies at 0.
        size: Side of the square in pixels.

    Returns:
        ``(T, 3, size, size)`` float32 in 0..255.
    """
    if not len(frames):
        return torch.empty(0, 3, size, size, device=frames.device)
    block = max(1, math.floor(1 / float(np.median(similarity.scale))))
    back = np.linalg.inv(similarity.matrix)  # from the square to the frame
    matrix = torch.from_numpy(back).float().to(frames.device)
    shift = torch.from_numpy(-np.einsum("tij,tj->ti", back, similarity.shift)).float().to(frames.device)
    middle = torch.arange(size, device=frames.device) + 0.5
    grid = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), dim=-1)  # (size, size, 2) of x, y
    cut = []
    for start in range(0, len(frames), _CHUNK):
        part = slice(start, start + _CHUNK)
        images = frames[part].float()
        if block > 1:
            images = F.avg_pool2d(images, block)
        edges = torch.tensor([images.shape[3], images.shape[2]], device=frames.device) * block
        places = torch.einsum("tij,hwj->thwi", matrix[part], grid) + shift[part, None, None]
        cut.append(F.grid_sample(images, 2 * places / edges - 1, mode="bilinear", align_corners=False))
    return torch.cat(cut)
