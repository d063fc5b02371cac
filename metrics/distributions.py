"""Whether generated faces move as real ones do: distances between distributions of motion, no download needed.

None of them compares frame with frame, so a free generation is not punished for moving otherwise than the real clip.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import signal
from scipy.stats import wasserstein_distance
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from datamodules.batches import FPS
from metrics.alignment import fit_similarity
from metrics.arguments import check_rows, side_of
from metrics.fid import frechet_distance
from metrics.landmarks import FACE, LandmarkSettings
from metrics.motion import BLINK, BlinkSettings, blink_starts


@dataclass(frozen=True)
class MotionFeatureSettings:
    """Which movements of a face make a Fréchet distance of motion.

    Attributes:
        steps: Frames that movements are taken over: 40 and 200 ms.
        pairs: Landmarks whose distance is a movement: lips open; mouth wide; lips pushed forward or pressed together;
            jaw down; brow on the image's left and on the right; lids on the left and on the right.
        still: Variance below which a feature of the real motion is constant: it gives no unit to count in, and is left
            out.
    """

    steps: tuple[int, ...] = (1, 5)
    pairs: tuple[tuple[int, int], ...] = (
        (13, 14),
        (61, 291),
        (0, 17),
        (152, 168),
        (105, 168),
        (334, 168),
        (159, 145),
        (386, 374),
    )
    still: float = 1e-12

    @property
    def width(self) -> int:
        """Number of features: every distance and three angles of the head, over every step."""
        return (len(self.pairs) + 3) * len(self.steps)


@dataclass(frozen=True)
class HeadSpeedSettings:
    """How the head's speed is taken.

    Attributes:
        step: Frames between two looks: shorter ones measure the landmarks' noise.
    """

    step: int = 5


@dataclass(frozen=True)
class HeadSpectrumSettings:
    """How the power of the head's angular velocity is taken.

    Attributes:
        lowest: Frequency in Hz at which the first octave begins.
        octaves: Number of octaves.
        window: Seconds that Welch's method looks at together, at most.
        shortest: Seconds that a clip must last.
        seen: Share of its frames that must show a face.
        floor: Least power, in (degrees/s)², so that a still head has a logarithm.
    """

    lowest: float = 0.25
    octaves: int = 5
    window: float = 4.0
    shortest: float = 3.0
    seen: float = 0.5
    floor: float = 1e-6


@dataclass(frozen=True)
class BlinkIntervalSettings:
    """What a distance of blink intervals stands on.

    Attributes:
        fewest: Intervals that each side must have.
    """

    fewest: int = 5


FEW_FRAMES = 10 * MotionFeatureSettings().width
"""With fewer frames on a side a Fréchet distance of motion is mostly bias: the result is marked."""


def motion_features(
    points: np.ndarray,
    rotation: np.ndarray,
    settings: MotionFeatureSettings = MotionFeatureSettings(),
    landmarks: LandmarkSettings = FACE,
) -> np.ndarray:
    """How the face moves at each frame: changes of eight distances in the face and of the head's rotation.

    Args:
        points: ``(T, 478, 3)`` landmarks in pixels; NaN without a face.
        rotation: ``(T, 3)`` yaw, pitch, roll in degrees.
        settings: Which movements.
        landmarks: Which landmarks stand for what.

    Returns:
        ``(N, 22)`` changes over 1 and over 5 frames; distances in space, which the head's pose doesn't change, over
        the eye distance; frames next to one without a face are left out.
    """
    steps, longest = settings.steps, max(settings.steps)
    first = points[np.isfinite(points).all(axis=(1, 2))][:1]
    if not len(first) or len(points) <= longest:
        return np.empty((0, settings.width))
    rigid, (left, right) = landmarks.rigid, landmarks.eye_corners
    posed = fit_similarity(points[:, rigid], first[0, list(rigid)]).apply(points)
    posed = posed / np.linalg.norm(first[0, left] - first[0, right])
    gaps = np.stack([np.linalg.norm(posed[:, a] - posed[:, b], axis=1) for a, b in settings.pairs], axis=1)
    curves = np.concatenate([gaps, rotation], axis=1)  # (T, 11)
    ends = curves[longest:]
    features = np.concatenate([ends - curves[longest - s : len(curves) - s] for s in steps], axis=1)
    return features[np.isfinite(features).all(axis=1)]


class MotionFrechetDistance(Metric):
    """Fréchet distance of landmark motion: `motion_features` of all generated against all real frames. 0 is best.

    Every feature is divided by its real standard deviation, so none outweighs the others by its unit.

    Args:
        settings: Which movements the features are.

    Attributes:
        frames: Frames behind the last computed value, real and generated.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor
    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(self, settings: MotionFeatureSettings = MotionFeatureSettings()) -> None:
        super().__init__()
        self.settings, shape = settings, (2, settings.width)
        self.add_state("counts", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        products = torch.zeros(*shape, settings.width, dtype=torch.float64)
        self.add_state("products", products, dist_reduce_fx="sum")
        self.frames = (0, 0)

    def update(self, features: Tensor, real: bool) -> None:
        """Add motion features ``(N, 22)`` of a clip, finite as `motion_features` gives them."""
        check_rows(features, ("N", self.settings.width))
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
        kept = np.flatnonzero(np.diagonal(covariances[0]) >= self.settings.still)
        if not len(kept):
            return torch.tensor(torch.nan, dtype=torch.float64)
        means, covariances = means[:, kept], [covariance[np.ix_(kept, kept)] for covariance in covariances]
        unit = 1 / np.sqrt(np.diagonal(covariances[0]))
        real, generated = (
            (torch.from_numpy(mean * unit), torch.from_numpy(unit[:, None] * cov * unit))
            for mean, cov in zip(means, covariances, strict=True)
        )
        return frechet_distance(*real, *generated).clamp(min=0)  # rounding of equal motion


def head_speed(rotation: np.ndarray, settings: HeadSpeedSettings = HeadSpeedSettings()) -> np.ndarray:
    """Speed of the head in degrees per second.

    Args:
        rotation: ``(T, 3)`` yaw, pitch, roll in degrees; steps from or to a NaN frame are left out.
        settings: How it is taken.
    """
    step = settings.step
    if len(rotation) <= step:
        return np.empty(0)
    speed = np.linalg.norm(rotation[step:] - rotation[:-step], axis=1) * FPS / step
    return speed[np.isfinite(speed)]


def blink_intervals(blink: np.ndarray, settings: BlinkSettings = BLINK) -> np.ndarray:
    """Seconds from the start of each blink to the start of the next; arguments as of `blink_starts`."""
    return np.diff(blink_starts(blink, settings)) / FPS


def head_spectrum(
    rotation: np.ndarray, settings: HeadSpectrumSettings = HeadSpectrumSettings()
) -> np.ndarray:
    """Power of the head's angular velocity in octaves from 0.25 to 8 Hz, in dB of (degrees/s)².

    Args:
        rotation: ``(T, 3)`` degrees; gaps without a face are bridged by straight lines.
        settings: How it is taken.

    Returns:
        ``(1, 5)``, or ``(0, 5)`` for a clip under 3 s or mostly without a face.
    """
    known = np.isfinite(rotation).all(axis=1)
    if len(rotation) < settings.shortest * FPS or known.mean() < settings.seen:
        return np.empty((0, settings.octaves))
    frames = np.arange(len(rotation))
    filled = np.stack([np.interp(frames, frames[known], angle[known]) for angle in rotation.T], axis=1)
    velocity = np.diff(filled, axis=0) * FPS
    length = min(len(velocity), int(settings.window * FPS))
    frequencies, power = signal.welch(velocity, FPS, nperseg=length, axis=0)
    total, starts = power.sum(axis=1), settings.lowest * 2.0 ** np.arange(settings.octaves)
    bands = [total[(frequencies >= low) & (frequencies < 2 * low)].mean() for low in starts]
    return 10 * np.log10(np.array(bands)[None] + settings.floor)


class _PooledDistance(Metric):
    """Distance of two sets of rows, gathered from all clips."""

    real: list[Tensor]
    generated: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(self, width: int = 1, fewest: int = 1) -> None:
        super().__init__()
        self.width, self.fewest = width, fewest
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

    def __init__(self, settings: BlinkIntervalSettings = BlinkIntervalSettings()) -> None:
        super().__init__(fewest=settings.fewest)


class HeadSpectrumDistance(_PooledDistance):
    """Mean absolute difference in dB, over five octaves, of the mean `head_spectrum` of the clips. 0 is best."""

    distance = staticmethod(_mean_difference)

    def __init__(self, settings: HeadSpectrumSettings = HeadSpectrumSettings()) -> None:
        super().__init__(width=settings.octaves)
