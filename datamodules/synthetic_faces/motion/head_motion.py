"""Head motion with a declared budget: so much of it follows the speech, so much the speaker's style, the rest is free.

Each axis is a sum of three curves, orthogonal over the clip and each with zero mean, whose variances have the shares of
``BUDGET``, times the intensity of the moment, which changes within some clips (the shares then hold of what it
multiplies):

- ``speech``: the same function of the speech for everybody;
- ``style``: the speaker's own answer to the speech; without knowledge of the speaker its expectation is zero;
- ``free``: smooth noise.

So nobody who hears the speech alone explains more than the first share of the variance (relative to the clip's own
intensity), and nobody who knows the speaker's style, too, more than the first two.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS
from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.motion.curves import changing_level, lag_behind, smooth_noise
from datamodules.synthetic_faces.motion.speech_drives import unit_curve
from datamodules.synthetic_faces.motion.style import AXES, Style

BUDGET = {"speech": 0.20, "style": 0.30, "free": 0.50}
"""Shares of the variance of each axis of the head's rotation."""
TURNS = (20.0, 8.0, 6.0)
"""Standard deviation in degrees of yaw, pitch and roll of heads that look round: what a renderer must have seen."""
TURN_CUTOFF = 0.25  # Hz
LIMITS = {"yaw": 38.0, "pitch": 26.0, "roll": 24.0}  # degrees that the head approaches but does not pass

# Of yaw, pitch and roll (rows) to ``speech_drives.DRIVE_NAMES``: everybody's answer, and the scale of speakers' own.
_COMMON = np.array([
    [0.0, 0.0, 0.2, 0.2, 0.3, 1.0, -0.3],
    [1.0, 0.3, 0.4, 0.3, 0.5, 0.0, -0.3],
    [0.2, 0.4, -0.2, 0.3, 0.2, 0.8, 0.4],
])  # fmt: skip
_OWN = np.array([
    [0.3, 0.6, 0.8, 0.8, 1.0, 1.0, 0.6],
    [1.0, 0.8, 0.8, 0.8, 1.0, 0.6, 0.8],
    [0.3, 0.6, 0.8, 0.8, 0.8, 1.0, 0.8],
])  # fmt: skip


@dataclass(frozen=True)
class HeadMotion:
    """Rotation of the head about its rest pose, before ``LIMITS``."""

    # ``(T, 3)`` parts of yaw, pitch and roll in degrees
    speech: np.ndarray
    style: np.ndarray
    free: np.ndarray
    intensity: np.ndarray  # ``(T,)`` head intensity of the moment in degrees
    turn: np.ndarray  # ``(T, 3)`` looking round, beside the budget: nothing in most clips

    @property
    def total(self) -> np.ndarray:
        """``(T, 3)`` degrees."""
        return self.speech + self.style + self.free + self.turn


def look_round(frames: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Slow turns ``(T, 3)`` of yaw, pitch and roll in degrees in a ``share`` of the clips, zeros in the others."""
    if rng.random() >= share:
        return np.zeros((frames, len(AXES)))
    return np.stack([size * smooth_noise(frames, TURN_CUTOFF, rng) for size in TURNS], axis=1)


def head_motion(
    drives: np.ndarray, style: Style, rng: np.random.Generator, turn: np.ndarray | None = None
) -> HeadMotion:
    """Draw the head's motion for the drives ``(T, D)`` of ``speech_drives``; ``turn (T, 3)`` joins it."""
    frames = len(drives)
    intensity = style.head_intensity * changing_level(frames, 3.0, 0.35, rng)
    curves = np.empty((len(BUDGET), frames, len(AXES)))
    for axis in range(len(AXES)):
        common = unit_curve(drives @ _COMMON[axis])
        own = _orthogonal([common], drives @ (_OWN[axis] * style.response[axis]))
        noise = 0.8 * smooth_noise(frames, 0.2, rng) + 0.6 * smooth_noise(frames, style.tempo, rng)
        curves[:, :, axis] = common, own, _orthogonal([common, own], noise)
    roots = np.sqrt(list(BUDGET.values()))[:, None, None]
    speech, own, free = roots * style.axis_shares * intensity[:, None] * curves
    return HeadMotion(speech, own, free, intensity, np.zeros_like(free) if turn is None else turn)


def move_head(controls: Controls, motion: HeadMotion, style: Style, rng: np.random.Generator) -> None:
    """Writes the head's pose."""
    frames = len(controls)
    yaw, pitch, roll = motion.total.T
    for axis, turn in (("yaw", yaw), ("pitch", pitch), ("roll", roll)):
        angle = getattr(style, f"rest_{axis}") + turn
        controls[axis][:] = LIMITS[axis] * np.tanh(angle / LIMITS[axis])
    # The head turns about the neck: turning and tilting carry it sideways, nodding carries it down.
    follow = 0.004 * motion.intensity
    sway, bob = smooth_noise(frames, 0.3, rng), smooth_noise(frames, 0.3, rng)
    controls["shift_x"][:] = style.rest_x + 0.004 * yaw + 0.004 * roll + follow * sway
    controls["shift_y"][:] = style.rest_y + 0.003 * pitch + follow * bob
    controls["shift_z"][:] = 0.004 * pitch + 1.5 * follow * smooth_noise(frames, 0.25, rng)


def move_shoulders(controls: Controls, style: Style, rng: np.random.Generator) -> None:
    """Shoulders follow the head smaller and later, shrug now and then, and breathe."""
    frames = len(controls)

    def later(curve: np.ndarray) -> np.ndarray:
        delayed = np.concatenate([np.full(4, curve[0]), curve])[:frames]
        return gaussian_filter1d(delayed, 5.0, mode="nearest")

    breath = np.sin(2 * np.pi * (rng.uniform(0.2, 0.3) * np.arange(frames) / FPS + rng.random()))
    strength = np.clip(style.head_intensity / 4, 0.2, 1.5)
    controls["breath"][:] = 0.6 * breath
    controls["shoulder_x"][:] = 0.7 * later(controls["shift_x"]) + 0.002 * later(controls["yaw"])
    controls["shoulder_y"][:] = 0.6 * later(controls["shift_y"]) + 0.008 * breath
    for axis, share, free in (("roll", 0.2, 0.4), ("yaw", 0.3, 0.8)):
        drift = free * strength * smooth_noise(frames, 0.2, rng)
        controls[f"shoulder_{axis}"][:] = share * later(controls[axis]) + drift
    for side in ("left", "right"):
        drift = 0.12 * strength * smooth_noise(frames, 0.3, rng)
        controls[f"shoulder_{side}"][:] = np.clip(0.1 + 0.15 * breath + drift, 0.0, 1.0)


def swing(controls: Controls, rng: np.random.Generator) -> None:
    """Hair and soft tissue come after the head; a little of it is free, as from a draught."""
    yaw, pitch, roll = (np.deg2rad(controls[axis]) for axis in AXES)
    sideways = controls["shift_x"] + yaw * 0.6 + roll * 0.8
    upwards = controls["shift_y"] + pitch * 0.5
    forwards = controls["shift_z"] - pitch * 0.6
    loose = rng.uniform(1.2, 2.0)  # Hz
    for name, driver in (("hair_x", sideways), ("hair_y", 0.5 * upwards), ("hair_z", forwards)):
        draught = 0.006 * smooth_noise(len(controls), 0.8, rng)
        controls[name][:] = np.clip(lag_behind(driver, loose, 0.3) + draught, -0.15, 0.15)
    controls["hair_twist"][:] = np.clip(0.6 * lag_behind(yaw, loose, 0.35), -0.15, 0.15)
    for name, driver in (("jowl_x", sideways), ("jowl_y", upwards)):
        controls[name][:] = np.clip(0.8 * lag_behind(driver, 4.0, 0.4), -0.05, 0.05)


def move_camera(controls: Controls, camera: str, rng: np.random.Generator) -> None:
    """``moving``: the sway of a camera held by hand, and a slow zoom; ``still``: nothing."""
    if camera == "still":
        return
    for name, size in (("x", 0.010), ("y", 0.010), ("roll", 0.5), ("zoom", 0.012)):
        slow, fast = (smooth_noise(len(controls), cutoff, rng) for cutoff in (0.3, 1.5))
        controls[f"camera_{name}"][:] = size * (0.9 * slow + 0.3 * fast)


def _orthogonal(others: list[np.ndarray], curve: np.ndarray) -> np.ndarray:
    """What of ``curve (T,)`` is orthogonal to curves that are unit and orthogonal, with zero mean and unit std."""
    curve = curve - curve.mean()
    for other in others:
        curve = curve - other * (curve @ other) / max(float(other @ other), 1e-12)
    return unit_curve(curve)
