"""Blinks and gaze."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS
from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.curves import changing_level
from datamodules.synthetic_faces.style import Style


def blink_curves(
    frames: int, intensity: float | np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lid curves of the left and right eye, ``(T,)`` each in [0, 1].

    Intervals are log-normal around 3 s / intensity (of the moment, where it is ``(T,)``), within 1.2 to 8 s; a blink
    takes 0.15 to 0.25 s, closes faster than it opens, and is fully closed in at least one frame.
    """
    rate = np.broadcast_to(np.asarray(intensity, dtype=float), (frames,))
    moments = (np.arange(frames) + 0.5) / FPS
    curve = np.zeros(frames)
    time = rng.uniform(0.2, 3.0 / rate[0])
    while time < frames / FPS:
        length = rng.uniform(0.15, 0.25)
        hold = 1.0 / FPS
        since = moments - time
        closing = since / (0.3 * length)
        opening = (length + hold - since) / (0.7 * length)
        lid = np.clip(np.minimum(closing, opening) + hold / (0.6 * length), 0.0, 1.0)
        curve = np.maximum(curve, np.where((since > -hold) & (since < length + 2 * hold), lid, 0.0))
        here = rate[min(int(time * FPS), frames - 1)]
        time += float(np.clip(rng.lognormal(np.log(3.0 / here), 0.45), 1.2, 8.0))
    curve = curve * curve * (3.0 - 2.0 * curve)
    return curve, curve * rng.uniform(0.96, 1.0)


def blink_intensity(frames: int, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Blink intensity of the moment ``(T,)``."""
    return style.blink_intensity * changing_level(frames, 2.5, 0.35, rng)


def move_gaze(controls: Controls, style: Style, rng: np.random.Generator) -> None:
    """Fixations: mostly the camera, against the turn of the head, sometimes elsewhere; quick jumps."""
    frames = len(controls)
    target = np.zeros((frames, 2))
    start, first = 0, True
    while start < frames:
        length = int(np.clip(rng.lognormal(np.log(1.3), 0.5), 0.4, 4.0) * FPS)
        away = not first and rng.random() < style.gaze
        spread = (9.0, 5.0) if away else (1.2, 0.8)
        target[start : start + length] = rng.normal(0.0, spread)
        start, first = start + length, False
    target[:, 0] -= 0.7 * controls["yaw"]
    target[:, 1] -= 0.7 * controls["pitch"]
    target = gaussian_filter1d(target, 0.6, axis=0, mode="nearest")
    controls["gaze_x"][:] = 24.0 * np.tanh(target[:, 0] / 24.0)
    controls["gaze_y"][:] = 16.0 * np.tanh(target[:, 1] / 16.0)
