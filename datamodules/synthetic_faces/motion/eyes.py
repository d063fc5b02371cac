"""Blinks and gaze."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS
from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.motion.curves import frame_moments
from datamodules.synthetic_faces.motion.style import Style

SPREAD = 0.45  # standard deviation of the log of the intervals between blinks
SHORTEST = 0.45  # seconds from the start of one blink to that of the next, at least


def blink_curves(
    frames: int, intensity: float | np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lid curves of the left and right eye, ``(T,)`` each in [0, 1].

    Intervals are log-normal with a mean of 3 s / intensity (of the moment, where it is ``(T,)``), and never shorter than
    ``SHORTEST``. A blink takes 0.25 to 0.35 s, closes faster than it opens, and keeps the left lids shut for 0.1 s, two
    frames or three; the right eye may be up to half a frame behind and short of shut by at most a twenty-fifth.
    """
    rate = np.broadcast_to(np.asarray(intensity, dtype=float), (frames,))
    moments = frame_moments(frames)
    left, right = np.zeros(frames), np.zeros(frames)
    time = rng.uniform(0.2, 3.0 / rate[0])
    while time < frames / FPS:
        length = rng.uniform(0.15, 0.25)
        left = np.maximum(left, _lid(moments - time, length))
        right = np.maximum(right, _lid(moments - time - rng.uniform(0.0, 0.5 / FPS), length))
        mean = 3.0 / rate[min(int(time * FPS), frames - 1)]
        time += max(SHORTEST, rng.lognormal(np.log(mean) - 0.5 * SPREAD**2, SPREAD))
    return left, right * rng.uniform(0.96, 1.0)


def _lid(since: np.ndarray, length: float) -> np.ndarray:
    """Closure of a lid ``since`` seconds after its blink began, ``(T,)``."""
    hold = 1.0 / FPS
    closing = since / (0.3 * length)
    opening = (length + hold - since) / (0.7 * length)
    lid = np.clip(np.minimum(closing, opening) + hold / (0.6 * length), 0.0, 1.0)
    lid = np.where((since > -hold) & (since < length + 2 * hold), lid, 0.0)
    return lid * lid * (3.0 - 2.0 * lid)


def move_gaze(controls: Controls, style: Style, rng: np.random.Generator) -> None:
    """Fixations: mostly the camera, against the turn of the head, sometimes elsewhere; quick jumps."""
    frames = len(controls)
    target = np.zeros((frames, 2))
    start = 0
    while start < frames:
        length = int(np.clip(rng.lognormal(np.log(1.3), 0.5), 0.4, 4.0) * FPS)
        away = start > 0 and rng.random() < style.gaze
        target[start : start + length] = rng.normal(0.0, (9.0, 5.0) if away else (1.2, 0.8))
        start += length
    target[:, 0] -= 0.7 * controls["yaw"]
    target[:, 1] -= 0.7 * controls["pitch"]
    target = gaussian_filter1d(target, 0.6, axis=0, mode="nearest")
    controls["gaze_x"][:] = 24.0 * np.tanh(target[:, 0] / 24.0)
    controls["gaze_y"][:] = 16.0 * np.tanh(target[:, 1] / 16.0)
