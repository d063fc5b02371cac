"""Random curves that motion is made of."""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import bilinear, lfilter, lfilter_zi

from datamodules.batches import FPS

Range = tuple[float, float]


def frame_moments(frames: int) -> np.ndarray:
    """Seconds from the start of a clip to the middle of each frame, ``(T,)``."""
    return (np.arange(frames) + 0.5) / FPS


def bell(moments: np.ndarray, middle: float, spread: float) -> np.ndarray:
    """Gaussian bump of height 1 over ``moments (T,)``; ``spread`` is its standard deviation."""
    return np.exp(-0.5 * np.square((moments - middle) / spread))


def smooth_noise(frames: int, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise without content above ``cutoff`` Hz (soft), zero mean and unit std, ``(T,)``."""
    padding = int(2 * FPS / cutoff)
    noise = gaussian_filter1d(rng.standard_normal(frames + 2 * padding), FPS / (2 * np.pi * cutoff))
    noise = noise[padding : padding + frames]
    return (noise - noise.mean()) / (noise.std() + 1e-9)


def random_events(
    frames: int, per_minute: float, height: Range, width: Range, rng: np.random.Generator
) -> np.ndarray:
    """Bumps at random moments, ``(T,)`` >= 0: so many a minute on average, heights and widths (s) in these ranges."""
    moments, curve = frame_moments(frames), np.zeros(frames)
    for _ in range(rng.poisson(per_minute * frames / FPS / 60)):
        middle, spread = rng.uniform(0, frames / FPS), rng.uniform(*width)
        curve = np.maximum(curve, rng.uniform(*height) * bell(moments, middle, spread))
    return curve


def changing_level(frames: int, ratio: float, chance: float, rng: np.random.Generator) -> np.ndarray:
    """A factor ``(T,)`` > 0 with a mean square of 1 that changes in a share ``chance`` of the clips, by ``ratio`` at most."""
    log = np.zeros(frames)
    change = rng.random() < chance
    place = 0.0
    level = rng.uniform(-0.5, 0.5)
    while place < frames:
        log[int(place) :] = level * np.log(ratio)
        place += rng.uniform(1.5, 5.0) * FPS
        level = rng.uniform(-0.5, 0.5)
    if not change:
        return np.ones(frames)
    factor = np.exp(gaussian_filter1d(log, 0.3 * FPS, mode="nearest"))
    return factor / np.sqrt(np.mean(np.square(factor)))


def lag_behind(curve: np.ndarray, frequency: float, damping: float) -> np.ndarray:
    """How far a mass on a spring stays behind a moving point ``(T,)``, in its unit; 0 while the point rests.

    The spring's frequency is below about 8 Hz, its damping relative to the critical one.
    """
    natural = 2 * np.pi * frequency
    b, a = bilinear([2 * damping * natural, natural**2], [1, 2 * damping * natural, natural**2], FPS)
    follower, _ = lfilter(b, a, curve, zi=lfilter_zi(b, a) * curve[0])
    return follower - curve
