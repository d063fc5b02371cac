"""Speech, style and chance to the control curves of a synthetic head."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS
from datamodules.synthetic_faces import visemes
from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.narration import Narration
from datamodules.synthetic_faces.speech import Phoneme

LIMITS = {"yaw": 34.0, "pitch": 24.0, "roll": 22.0}
"""Degrees that the head approaches but does not pass."""


@dataclass(frozen=True)
class Style:
    """How somebody moves in one clip; every number is drawn independently of the others.

    Attributes:
        head_intensity: standard deviation of the free yaw motion in degrees.
        mouth_intensity: articulation strength beyond what the loudness says, about 1.
        blink_intensity: blinks relative to one every three seconds.
        nod: depth of nods on stressed syllables relative to the head intensity.
        sway: strength of the slow nodding with the loudness of speech, relative to the head intensity.
        tempo: cut-off of the fast part of the head motion in Hz.
        pitch_share, roll_share: motion of these axes relative to yaw.
        brow: strength of brow accents and drift.
        gaze: how often the eyes leave the camera, 0..1.
        smile: resting lift of the mouth corners.
        rest_yaw, rest_pitch, rest_roll: mean head pose in degrees.
        rest_x, rest_y: mean head position in head radii.
    """

    head_intensity: float
    mouth_intensity: float
    blink_intensity: float
    nod: float
    sway: float
    tempo: float
    pitch_share: float
    roll_share: float
    brow: float
    gaze: float
    smile: float
    rest_yaw: float
    rest_pitch: float
    rest_roll: float
    rest_x: float
    rest_y: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Style":
        """Draws a style; the head intensity is log-uniform from 0.3 (nearly still) to 8 degrees."""
        return cls(
            head_intensity=_log_uniform(rng, 0.3, 8.0),
            mouth_intensity=float(np.exp(np.clip(rng.normal(0.0, 0.05), -0.12, 0.12))),
            blink_intensity=_log_uniform(rng, 0.6, 1.8),
            nod=rng.uniform(0.3, 1.1),
            sway=rng.uniform(0.0, 0.5),
            tempo=rng.uniform(0.5, 1.2),
            pitch_share=_log_uniform(rng, 0.4, 0.75),
            roll_share=_log_uniform(rng, 0.25, 0.6),
            brow=_log_uniform(rng, 0.25, 1.0),
            gaze=rng.uniform(0.1, 0.6),
            smile=rng.uniform(-0.03, 0.2),
            rest_yaw=_bounded_normal(rng, 5.0),
            rest_pitch=_bounded_normal(rng, 3.0),
            rest_roll=_bounded_normal(rng, 2.5),
            rest_x=_bounded_normal(rng, 0.04),
            rest_y=_bounded_normal(rng, 0.03),
        )

    def to_dict(self) -> dict[str, float]:
        """The numbers by name, for the clip's annotations."""
        return {name: float(value) for name, value in asdict(self).items()}


def animate(narration: Narration, style: Style, rng: np.random.Generator) -> Controls:
    """Control curves of a clip.

    Args:
        narration: what is said.
        style: how it is said.
        rng: source of the free motion, blinks and gaze.

    Returns:
        Controls of ``narration.frames`` frames.
    """
    frames = narration.frames
    controls = Controls.neutral(frames)
    units = visemes.split_phonemes(narration.phonemes)
    _move_mouth(controls, narration, units, style, rng)
    stresses = stressed_moments(units)
    _move_head(controls, narration, stresses, style, rng)
    _move_shoulders(controls, rng)
    left, right = blink_curves(frames, style.blink_intensity, rng)
    controls["blink_left"][:], controls["blink_right"][:] = left, right
    _move_gaze(controls, style, rng)
    _move_brows(controls, stresses, style, rng)
    return controls


def stressed_moments(units: list[Phoneme]) -> np.ndarray:
    """Seconds of the middle of each vowel with primary stress, ``(N,)``."""
    moments: list[float] = []
    for unit in units:
        middle = 0.5 * (unit.start + unit.end)
        if unit.stress == 2 and (not moments or middle - moments[-1] > 0.15):
            moments.append(middle)
    return np.array(moments)


def smooth_noise(frames: int, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise without content above ``cutoff`` Hz (soft), zero mean and unit std, ``(T,)``."""
    padding = int(2 * FPS / cutoff)
    noise = gaussian_filter1d(rng.standard_normal(frames + 2 * padding), FPS / (2 * np.pi * cutoff))
    noise = noise[padding : padding + frames]
    return (noise - noise.mean()) / (noise.std() + 1e-9)


def blink_curves(frames: int, intensity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lid curves of the left and right eye, ``(T,)`` each in [0, 1].

    Intervals are log-normal around 3 s / intensity, within 1.2 to 7 s; a blink takes 0.15 to 0.25 s, closes
    faster than it opens, and is fully closed in at least one frame.
    """
    moments = (np.arange(frames) + 0.5) / FPS
    curve = np.zeros(frames)
    time = rng.uniform(0.2, 3.0 / intensity)
    while time < frames / FPS:
        length = rng.uniform(0.15, 0.25)
        hold = 1.0 / FPS
        since = moments - time
        closing = since / (0.3 * length)
        opening = (length + hold - since) / (0.7 * length)
        lid = np.clip(np.minimum(closing, opening) + hold / (0.6 * length), 0.0, 1.0)
        curve = np.maximum(curve, np.where((since > -hold) & (since < length + 2 * hold), lid, 0.0))
        time += float(np.clip(rng.lognormal(np.log(3.0 / intensity), 0.45), 1.2, 7.0))
    curve = curve * curve * (3.0 - 2.0 * curve)
    return curve, curve * rng.uniform(0.96, 1.0)


def _move_mouth(
    controls: Controls, narration: Narration, units: list[Phoneme], style: Style, rng: np.random.Generator
) -> None:
    articulation = visemes.articulation_from_loudness(narration.speech, style.mouth_intensity)
    for name, curve in visemes.mouth_curves(units, articulation, len(controls)).items():
        controls[name][:] = curve
    controls["smile"][:] = style.smile + 0.025 * smooth_noise(len(controls), 0.3, rng)


def _move_head(
    controls: Controls, narration: Narration, stresses: np.ndarray, style: Style, rng: np.random.Generator
) -> None:
    """Free motion of all axes, nods on stressed syllables and a slow sway with the loudness."""
    frames, strength = len(controls), style.head_intensity
    moments = (np.arange(frames) + 0.5) / FPS
    shares = {"yaw": 1.0, "pitch": style.pitch_share, "roll": style.roll_share}
    free = {}
    for name, share in shares.items():
        slow, fast = smooth_noise(frames, 0.2, rng), smooth_noise(frames, style.tempo, rng)
        mixed = 0.85 * slow + 0.5 * fast
        free[name] = strength * share * mixed / (mixed.std() + 1e-9)

    loud = _slow_loudness(narration, moments)
    nods = _nods(moments, stresses, narration, rng)
    speech_pitch = strength * (style.sway * loud - style.nod * nods)
    rest = {"yaw": style.rest_yaw, "pitch": style.rest_pitch, "roll": style.rest_roll}
    for name in shares:
        angle = rest[name] + free[name] + (speech_pitch if name == "pitch" else 0.0)
        controls[name][:] = LIMITS[name] * np.tanh(angle / LIMITS[name])
    # The head turns about the neck: turning and tilting carry it sideways, nodding carries it down.
    follow = 0.004 * strength
    controls["shift_x"][:] = style.rest_x + 0.004 * free["yaw"] + 0.004 * free["roll"]
    controls["shift_x"][:] += follow * smooth_noise(frames, 0.3, rng)
    controls["shift_y"][:] = style.rest_y + 0.004 * speech_pitch + follow * smooth_noise(frames, 0.3, rng)
    controls["shift_z"][:] = 1.5 * follow * smooth_noise(frames, 0.25, rng)


def _slow_loudness(narration: Narration, moments: np.ndarray) -> np.ndarray:
    """Loudness below 0.7 Hz, zero mean and unit std, ``(T,)``."""
    level = np.maximum(visemes.loudness(narration.speech, 0.22), narration.level - 25.0)
    level = np.interp(moments, np.arange(len(level)) / visemes.RATE, level)
    return (level - level.mean()) / (level.std() + 1e-9)


def _nods(
    moments: np.ndarray, stresses: np.ndarray, narration: Narration, rng: np.random.Generator
) -> np.ndarray:
    """Sum of short dips, deeper where the stressed syllable is louder, ``(T,)`` about 0..2."""
    level = visemes.loudness(narration.speech)
    nods = np.zeros(len(moments))
    for stress in stresses:
        here = level[min(int(stress * visemes.RATE), len(level) - 1)] - narration.level
        depth = np.interp(here, (-8.0, 0.0, 6.0), (0.1, 0.7, 1.6)) * rng.lognormal(0.0, 0.35)
        nods += depth * np.exp(-0.5 * np.square((moments - stress - 0.06) / 0.13))
    return nods


def _move_shoulders(controls: Controls, rng: np.random.Generator) -> None:
    """Shoulders follow the head smaller and later, and breathe."""
    frames = len(controls)

    def later(curve: np.ndarray) -> np.ndarray:
        delayed = np.concatenate([np.full(4, curve[0]), curve])[:frames]
        return gaussian_filter1d(delayed, 5.0, mode="nearest")

    controls["shoulder_x"][:] = 0.7 * later(controls["shift_x"]) + 0.002 * later(controls["yaw"])
    breath = np.sin(2 * np.pi * (rng.uniform(0.2, 0.3) * np.arange(frames) / FPS + rng.random()))
    controls["shoulder_y"][:] = 0.6 * later(controls["shift_y"]) + 0.012 * breath
    controls["shoulder_roll"][:] = 0.2 * later(controls["roll"])


def _move_gaze(controls: Controls, style: Style, rng: np.random.Generator) -> None:
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


def _move_brows(controls: Controls, stresses: np.ndarray, style: Style, rng: np.random.Generator) -> None:
    """A slow drift, and a raise on some stressed syllables."""
    frames = len(controls)
    moments = (np.arange(frames) + 0.5) / FPS
    brows = 0.15 * style.brow * smooth_noise(frames, 0.25, rng)
    for stress in stresses:
        if rng.random() < 0.3:
            brows += style.brow * rng.uniform(0.3, 0.8) * np.exp(-0.5 * np.square((moments - stress) / 0.16))
    tilt = 0.05 * smooth_noise(frames, 0.2, rng)
    controls["brow_left"][:] = np.clip(brows + tilt, -1.0, 1.0)
    controls["brow_right"][:] = np.clip(brows - tilt, -1.0, 1.0)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _bounded_normal(rng: np.random.Generator, std: float) -> float:
    return float(np.clip(rng.normal(0.0, std), -2.0 * std, 2.0 * std))
