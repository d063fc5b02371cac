"""Whether generated faces move as real ones do: distances between distributions of motion, no download needed.

None of them compares frame with frame, so a free generation is not punished for moving otherwise than the real clip.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy import signal
from scipy.stats import wasserstein_distance
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from datamodules.batches import FPS
from metrics.alignment import fit_similarity
from metrics.arguments import check_rows, side_of
from metrics.base import JudgeMetric
from metrics.frechet import frechet_distance
from metrics.landmarks import OUTER_EYE_CORNERS, RIGID
from metrics.motion import blink_starts

STEPS = (1, 5)
"""Frames that movements are taken over: 40 and 200 ms."""
_SIGNALS = (  # pairs of landmarks whose distance is a movement of the face
    (13, 14),  # lips open
    (61, 291),  # mouth wide
    (0, 17),  # lips pushed forward or pressed together
    (152, 168),  # jaw down
    (105, 168),  # brow on the image's left
    (334, 168),  # brow on the right
    (159, 145),  # lids on the left
    (386, 374),  # lids on the right
)
MOTION_DIM = (len(_SIGNALS) + 3) * len(STEPS)
NO_MOTION = 1e-12
"""Variance below which a feature of the real motion is constant: it gives no unit to count in, and is left out."""
FEW_FRAMES = 10 * MOTION_DIM
"""With fewer frames on a side a Fréchet distance of motion is mostly bias: the result is marked."""
FEWEST_INTERVALS = 5


def motion_features(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """How the face moves at each frame: changes of eight distances in the face and of the head's rotation.

    Args:
        points: ``(T, 478, 3)`` landmarks in pixels; NaN without a face.
        rotation: ``(T, 3)`` yaw, pitch, roll in degrees.

    Returns:
        ``(N, 22)`` changes over 1 and over 5 frames; distances in space, which the head's pose doesn't change, over
        the eye distance; frames next to one without a face are left out.
    """
    first = points[np.isfinite(points).all(axis=(1, 2))][:1]
    if not len(first) or len(points) <= max(STEPS):
        return np.empty((0, MOTION_DIM))
    posed = fit_similarity(points[:, RIGID], first[0, list(RIGID)]).apply(points)
    posed = posed / np.linalg.norm(first[0, OUTER_EYE_CORNERS[0]] - first[0, OUTER_EYE_CORNERS[1]])
    gaps = np.stack([np.linalg.norm(posed[:, a] - posed[:, b], axis=1) for a, b in _SIGNALS], axis=1)
    curves = np.concatenate([gaps, rotation], axis=1)  # (T, 11)
    ends = curves[max(STEPS) :]
    features = np.concatenate(
        [ends - curves[max(STEPS) - step : len(curves) - step] for step in STEPS], axis=1
    )
    return features[np.isfinite(features).all(axis=1)]


class MotionFrechetDistance(JudgeMetric):
    """Fréchet distance of landmark motion: `motion_features` of all generated against all real frames. 0 is best.

    Every feature is divided by its real standard deviation, so none outweighs the others by its unit.

    Attributes:
        frames: Frames behind the last computed value, real and generated.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor
    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(self) -> None:
        super().__init__()
        shape = (2, MOTION_DIM)
        self.add_state("counts", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(*shape, MOTION_DIM, dtype=torch.float64), dist_reduce_fx="sum")
        self.frames = (0, 0)

    def update(self, features: Tensor, real: bool) -> None:
        """Add motion features ``(N, 22)`` of a clip, finite as `motion_features` gives them."""
        check_rows(features, ("N", MOTION_DIM))
        side, values = side_of(real), features.double()
        self.counts[side] += len(values)
        self.sums[side] += values.sum(dim=0)
        self.products[side] += values.T @ values

    def compute(self) -> Tensor:
        """The distance over the features in which the real motion varies; NaN with fewer than two frames on a side."""
        self.frames = (int(self.counts[0]), int(self.counts[1]))
        if min(self.frames) < 2:
            return torch.tensor(torch.nan, dtype=torch.float64)
        means = (self.sums / self.counts[:, None]).cpu().numpy()
        products = (self.products / self.counts[:, None, None]).cpu().numpy()
        covariances = [product - np.outer(mean, mean) for product, mean in zip(products, means, strict=True)]
        kept = np.flatnonzero(np.diagonal(covariances[0]) >= NO_MOTION)
        if not len(kept):
            return torch.tensor(torch.nan, dtype=torch.float64)
        means, covariances = means[:, kept], [covariance[np.ix_(kept, kept)] for covariance in covariances]
        unit = 1 / np.sqrt(np.diagonal(covariances[0]))
        real, generated = (
            (torch.from_numpy(mean * unit), torch.from_numpy(unit[:, None] * cov * unit))
            for mean, cov in zip(means, covariances, strict=True)
        )
        return frechet_distance(*real, *generated).clamp(min=0)  # rounding of equal motion


def head_speed(rotation: np.ndarray, step: int = 5) -> np.ndarray:
    """Speed of the head in degrees per second over steps of 0.2 s; shorter ones measure the landmarks' noise.

    Args:
        rotation: ``(T, 3)`` yaw, pitch, roll in degrees; steps from or to a NaN frame are left out.
        step: In frames.
    """
    if len(rotation) <= step:
        return np.empty(0)
    speed = np.linalg.norm(rotation[step:] - rotation[:-step], axis=1) * FPS / step
    return speed[np.isfinite(speed)]


def blink_intervals(blink: np.ndarray, threshold: float = 0.5, minimum: int = 2) -> np.ndarray:
    """Seconds from the start of each blink to the start of the next; arguments as of `blink_starts`."""
    return np.diff(blink_starts(blink, threshold, minimum)) / FPS


def head_spectrum(rotation: np.ndarray) -> np.ndarray:
    """Power of the head's angular velocity in octaves from 0.25 to 8 Hz, in dB of (degrees/s)².

    Args:
        rotation: ``(T, 3)`` degrees; gaps without a face are bridged by straight lines.

    Returns:
        ``(1, 5)``, or ``(0, 5)`` for a clip under 3 s or mostly without a face.
    """
    known = np.isfinite(rotation).all(axis=1)
    if len(rotation) < 3 * FPS or known.mean() < 0.5:
        return np.empty((0, 5))
    frames = np.arange(len(rotation))
    filled = np.stack([np.interp(frames, frames[known], angle[known]) for angle in rotation.T], axis=1)
    velocity = np.diff(filled, axis=0) * FPS
    length = min(len(velocity), 4 * FPS)
    frequencies, power = signal.welch(velocity, FPS, nperseg=length, axis=0)
    total, edges = power.sum(axis=1), 0.25 * 2.0 ** np.arange(6)
    bands = [total[(frequencies >= low) & (frequencies < 2 * low)].mean() for low in edges[:-1]]
    return 10 * np.log10(np.array(bands)[None] + 1e-6)


class _PooledDistance(JudgeMetric):
    """Distance of two sets of rows, gathered from all clips."""

    real: list[Tensor]
    generated: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    width = 1
    fewest = 1

    def __init__(self) -> None:
        super().__init__()
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")
        self._begin()

    def _begin(self) -> None:
        # A process without rows must still offer the others a tensor of the same type and width to gather.
        for side in (self.real, self.generated):
            side.append(torch.empty(0, self.width, dtype=torch.float64, device=self.device))

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._begin()

    def update(self, rows: Tensor, real: bool) -> None:
        """Add the rows ``(N, width)`` of one clip; of width 1 also ``(N,)``."""
        shapes = (("N", self.width),) if self.width > 1 else (("N",), ("N", 1))
        check_rows(rows, *shapes, name="rows")
        (self.real, self.generated)[side_of(real)].append(rows.double().reshape(-1, self.width))

    def compute(self) -> Tensor:
        """The distance; NaN with too few rows on a side."""
        sides = [dim_zero_cat(side).cpu().numpy() for side in (self.real, self.generated)]
        if min(len(side) for side in sides) < self.fewest:
            return torch.tensor(torch.nan, dtype=torch.float64)
        return torch.tensor(type(self).distance(*sides), dtype=torch.float64)

    distance: Callable[[np.ndarray, np.ndarray], float]


def _wasserstein(real: np.ndarray, generated: np.ndarray) -> float:
    return float(wasserstein_distance(real[:, 0], generated[:, 0]))


def _mean_difference(real: np.ndarray, generated: np.ndarray) -> float:
    return float(np.abs(real.mean(axis=0) - generated.mean(axis=0)).mean())


class HeadVelocityDistance(_PooledDistance):
    """Wasserstein distance of head speeds in degrees per second; update with `head_speed` of each clip. 0 is best."""

    distance = staticmethod(_wasserstein)


class BlinkIntervalDistance(_PooledDistance):
    """Wasserstein distance in seconds of `blink_intervals`; NaN with fewer than five on a side. 0 is best."""

    distance = staticmethod(_wasserstein)
    fewest = FEWEST_INTERVALS


class HeadSpectrumDistance(_PooledDistance):
    """Mean absolute difference in dB, over five octaves, of the mean `head_spectrum` of the clips. 0 is best."""

    distance = staticmethod(_mean_difference)
    width = 5
