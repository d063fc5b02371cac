"""Face motion that is not speech: brows, lids, cheeks, nose, corners of the mouth, each with a life of its own."""

from dataclasses import dataclass

import numpy as np

from datamodules.synthetic_faces.motion.controls import Controls, pair
from datamodules.synthetic_faces.motion.curves import Range, bell, frame_moments, random_events, smooth_noise
from datamodules.synthetic_faces.motion.style import Style


@dataclass(frozen=True)
class Habit:
    """How a control, or a pair of them, moves without speech; heights are for an expression strength of 1."""

    names: tuple[str, ...]  # one control, or the left and the right one of a pair
    per_minute: float  # bumps a minute
    height: Range  # smallest and largest bump
    width: Range = (0.15, 0.6)  # shortest and longest time constant of a bump in seconds
    drift: float = 0.0  # standard deviation of a slow drift
    signed: bool = False  # the bumps go either way
    top: float = 1.0  # furthest that the control goes


HABITS = (
    Habit(pair("brow_inner"), 5, (0.2, 0.7), drift=0.06),
    Habit(("brow_knit",), 6, (0.2, 0.8), drift=0.06),
    Habit(pair("lid_wide"), 6, (0.1, 0.5), drift=0.05),
    Habit(pair("squint"), 6, (0.15, 0.6), drift=0.08),
    Habit(pair("cheek_raise"), 5, (0.15, 0.7), (0.3, 1.0), drift=0.05),
    Habit(("nose_wrinkle",), 3, (0.15, 0.5), drift=0.03),
    Habit(("nostril_flare",), 8, (0.1, 0.5), drift=0.08, signed=True),
    Habit(pair("upper_lip"), 4, (0.05, 0.2), drift=0.02),
    Habit(pair("lower_lip"), 4, (0.05, 0.2), drift=0.02),
    Habit(pair("dimple"), 6, (0.15, 0.6), drift=0.05),
    Habit(pair("corner_down"), 4, (0.1, 0.5), drift=0.04),
    Habit(("smile_skew",), 6, (0.2, 0.8), drift=0.2, signed=True),
    Habit(("chin_raise",), 4, (0.1, 0.5), drift=0.03),
    Habit(pair("cheek_puff"), 2, (0.1, 0.4), drift=0.04),
    Habit(("lips_tight",), 3, (0.1, 0.4), drift=0.02),
    Habit(("jaw_side",), 5, (0.05, 0.3), drift=0.06, signed=True),
    Habit(("jaw_forward",), 4, (0.05, 0.3), drift=0.05, signed=True),
    Habit(("tongue_side",), 6, (0.1, 0.5), drift=0.1, signed=True),
    Habit(("neck_tense",), 4, (0.1, 0.5), drift=0.04),
    Habit(("swallow",), 3, (0.5, 1.0), (0.12, 0.2)),
    Habit(("scalp",), 4, (0.1, 0.5), drift=0.1, signed=True),
    Habit(("vergence",), 4, (0.3, 1.2), drift=0.3, signed=True, top=3.0),
)
_ASYMMETRY = 0.35  # how much of a pair's motion is each side's own


def add_habits(controls: Controls, style: Style, rng: np.random.Generator) -> None:
    """Adds the motion of ``HABITS`` to what speech has written."""
    frames = len(controls)
    for habit in HABITS:
        together = _course(habit, frames, rng)
        for name in habit.names:
            curve = together
            if len(habit.names) > 1:
                curve = (1 - _ASYMMETRY) * together + _ASYMMETRY * _course(habit, frames, rng)
            low = -habit.top if habit.signed else 0.0
            controls[name][:] = np.clip(controls[name] + style.expression * curve, low, habit.top)


def _course(habit: Habit, frames: int, rng: np.random.Generator) -> np.ndarray:
    curve = random_events(frames, habit.per_minute, habit.height, habit.width, rng)
    if habit.signed:
        curve = curve - random_events(frames, habit.per_minute, habit.height, habit.width, rng)
    return curve + habit.drift * smooth_noise(frames, 0.3, rng)


def move_brows(controls: Controls, stresses: np.ndarray, style: Style, rng: np.random.Generator) -> None:
    """A slow drift, and a raise on some stressed syllables."""
    frames = len(controls)
    brows = 0.15 * style.expression * smooth_noise(frames, 0.25, rng)
    for stress in stresses:
        if rng.random() < 0.3:
            brows += style.expression * rng.uniform(0.3, 0.8) * bell(frame_moments(frames), stress, 0.16)
    tilt = 0.05 * smooth_noise(frames, 0.2, rng)
    controls["brow_left"][:] = np.clip(brows + tilt, -1.0, 1.0)
    controls["brow_right"][:] = np.clip(brows - tilt, -1.0, 1.0)


def smile(controls: Controls, style: Style, rng: np.random.Generator) -> None:
    """A resting smile, its drift, and smiles that come and go."""
    frames = len(controls)
    passing = 0.3 * style.expression * random_events(frames, 5, (0.3, 1.0), (0.4, 1.2), rng)
    controls["smile"][:] = np.clip(style.smile + 0.025 * smooth_noise(frames, 0.3, rng) + passing, -0.5, 1.0)
