"""Motion of all clips together: distances between the distributions of generated and of real motion.

None of them compares frame with frame, so a free generation is not punished for moving otherwise than the real clip.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import signal
from scipy.stats import wasserstein_distance
from torch import Tensor

from datamodules.batches import FPS
from metrics.alignment import fit_similarity
from metrics.base import SidesDistance
from metrics.fid import frechet_distance
from metrics.landmarks import FACE, LandmarkSettings
from metrics.motion import BLINK, BlinkSettings, blink_starts


@dataclass(frozen=True)
class MotionFeatureSettings:
    """Which movements of a face make a Fréchet distance of motion."""

    steps: tuple[int, ...] = (1, 5)  # frames that movements are taken over: 40 and 200 ms
    pairs: tuple[tuple[int, int], ...] = (  # landmarks whose distance is a movement
        (13, 14),  # lips open
        (61, 291),  # mouth wide
        (0, 17),  # lips pushed forward or pressed together
        (152, 168),  # jaw down
        (105, 168),  # brow on the image's left
        (334, 168),  # and on the right
        (159, 145),  # lids on the left
        (386, 374),  # and on the right
    )
    still: float = (
        1e-12  # a feature of the real motion that varies less is left out: it gives no unit to count in
    )

    @property
    def width(self) -> int:
        """Number of features: every distance and three angles of the head, over every step."""
        return (len(self.pairs) + 3) * len(self.steps)


@dataclass(frozen=True)
class HeadSpeedSettings:
    """How the head's speed is taken."""

    step: int = 5  # frames between two looks: shorter ones measure the landmarks' noise


@dataclass(frozen=True)
class HeadSpectrumSettings:
    """How the power of the head's angular velocity is taken."""

    lowest: float = 0.25  # frequency in Hz at which the first octave begins
    octaves: int = 5  # number of octaves
    window: float = 4.0  # seconds that Welch's method looks at together, at most
    shortest: float = 3.0  # seconds that a clip must last
    seen: float = 0.5  # share of its frames that must show a face
    floor: float = 1e-6  # least power, in (degrees/s)², so that a still head has a logarithm


@dataclass(frozen=True)
class BlinkIntervalSettings:
    """What a distance of blink intervals stands on."""

    fewest: int = 5  # intervals that each side must have


FEW_FRAMES = 10 * MotionFeatureSettings().width
"""With fewer frames on a side a Fréchet distance of motion is mostly bias: the result is marked."""


def motion_features(
    points: np.ndarray,
    rotation: np.ndarray,
    settings: MotionFeatureSettings = MotionFeatureSettings(),
    landmarks: LandmarkSettings = FACE,
) -> np.ndarray:
    """How the face moves at each frame: changes of eight distances in the face and of the head's rotation.

    ``(N, 22)`` changes over 1 and over 5 frames of landmarks ``(T, 478, 3)`` in pixels and rotation ``(T, 3)`` in degrees;
    distances in space, which the head's pose doesn't change, over the eye distance. Frames next to one without a face
    (NaN) are left out.
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


def head_speed(rotation: np.ndarray, settings: HeadSpeedSettings = HeadSpeedSettings()) -> np.ndarray:
    """Speed of the head in degrees per second; steps from or to a NaN frame of ``rotation`` ``(T, 3)`` are left out."""
    step = settings.step
    if len(rotation) <= step:
        return np.empty(0)
    speed = np.linalg.norm(rotation[step:] - rotation[:-step], axis=1) * FPS / step
    return speed[np.isfinite(speed)]


def blink_intervals(blink: np.ndarray, settings: BlinkSettings = BLINK) -> np.ndarray:
    """Seconds from the start of each blink to the start of the next, see `blink_starts`."""
    return np.diff(blink_starts(blink, settings)) / FPS


def head_spectrum(
    rotation: np.ndarray, settings: HeadSpectrumSettings = HeadSpectrumSettings()
) -> np.ndarray:
    """Power of the head's angular velocity in octaves from 0.25 to 8 Hz, in dB of (degrees/s)².

    ``(1, 5)`` of ``rotation`` ``(T, 3)`` in degrees, its gaps bridged by straight lines; ``(0, 5)`` for a clip under
    3 s or mostly without a face.
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


class MotionFrechetDistance(SidesDistance):
    """Fréchet distance of landmark motion: `motion_features` of all generated against all real frames. 0 is best.

    Every feature is divided by its real standard deviation, so none outweighs the others by its unit; one in which the
    real motion rests is left out.
    """

    def __init__(self, settings: MotionFeatureSettings = MotionFeatureSettings()) -> None:
        super().__init__(settings.width, fewest=2)
        self.settings = settings

    def distance(self, real: Tensor, generated: Tensor) -> Tensor:
        """See the class; NaN for a real face that rests."""
        variance = real.var(dim=0, correction=0)
        kept = variance >= self.settings.still
        if not kept.any():
            return variance.sum() * torch.nan
        sides = [side[:, kept] / variance[kept].sqrt() for side in (real, generated)]
        moments = [(side.mean(dim=0), torch.atleast_2d(side.T.cov(correction=0))) for side in sides]
        return frechet_distance(*moments[0], *moments[1]).clamp(min=0)  # rounding of equal motion


class HeadVelocityDistance(SidesDistance):
    """Wasserstein distance of head speeds in degrees per second; update with `head_speed` of each clip. 0 is best."""

    def distance(self, real: Tensor, generated: Tensor) -> Tensor:
        """See the class."""
        sides = (side[:, 0].cpu().numpy() for side in (real, generated))
        return real.new_tensor(wasserstein_distance(*sides))


class BlinkIntervalDistance(HeadVelocityDistance):
    """Wasserstein distance in seconds of `blink_intervals`; NaN with fewer than five on a side. 0 is best."""

    def __init__(self, settings: BlinkIntervalSettings = BlinkIntervalSettings()) -> None:
        super().__init__(fewest=settings.fewest)


class HeadSpectrumDistance(SidesDistance):
    """Mean absolute difference in dB, over five octaves, of the mean `head_spectrum` of the clips. 0 is best."""

    def __init__(self, settings: HeadSpectrumSettings = HeadSpectrumSettings()) -> None:
        super().__init__(width=settings.octaves)

    def distance(self, real: Tensor, generated: Tensor) -> Tensor:
        """See the class."""
        return (real.mean(dim=0) - generated.mean(dim=0)).abs().mean()
