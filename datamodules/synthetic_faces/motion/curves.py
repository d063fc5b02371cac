"""Random curves that motion is made of."""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import bilinear, lfilter, lfilter_zi

from datamodules.batches import FPS


def smooth_noise(frames: int, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise without content above ``cutoff`` Hz (soft), zero mean and unit std, ``(T,)``."""
    padding = int(2 * FPS / cutoff)
    noise = gaussian_filter1d(rng.standard_normal(frames + 2 * padding), FPS / (2 * np.pi * cutoff))
    noise = noise[padding : padding + frames]
    return (noise - noise.mean()) / (noise.std() + 1e-9)


def random_events(
    frames: int,
    per_minute: float,
    height: tuple[float, float],
    width: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Bumps at random moments, ``(T,)`` >= 0.

    Args:
        frames: T.
        per_minute: expected number of bumps.
        height: smallest and largest height.
        width: shortest and longest time constant in seconds.
        rng: source of randomness.
    """
    moments = (np.arange(frames) + 0.5) / FPS
    curve = np.zeros(frames)
    for _ in range(rng.poisson(per_minute * frames / FPS / 60)):
        middle, spread = rng.uniform(0, frames / FPS), rng.uniform(*width)
        bump = np.exp(-0.5 * np.square((moments - middle) / spread))
        curve = np.maximum(curve, rng.uniform(*height) * bump)
    return curve


def changing_level(frames: int, ratio: float, chance: float, rng: np.random.Generator) -> np.ndarray:
    """A factor that changes within some clips, ``(T,)`` > 0 with a mean square of 1.

    Args:
        frames: T.
        ratio: largest factor between two stretches.
        chance: share of clips in which it changes at all.
        rng: source of randomness.
    """
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

    Args:
        curve: position of the point.
        frequency: of the spring in Hz, below about 8.
        damping: relative to the critical one.
    """
    natural = 2 * np.pi * frequency
    b, a = bilinear([2 * damping * natural, natural**2], [1, 2 * damping * natural, natural**2], FPS)
    follower, _ = lfilter(b, a, curve, zi=lfilter_zi(b, a) * curve[0])
    return follower - curve
