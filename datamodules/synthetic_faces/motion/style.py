"""How somebody moves: numbers drawn freely for a clip, or read off somebody's looks."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import hypot, sqrt
from statistics import mean, pstdev
from typing import Any

import numpy as np
from scipy.stats import norm

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.motion.speech_drives import DRIVE_NAMES
from datamodules.synthetic_faces.speech.narration import LEVELS, RATE_SPREAD, Narration
from datamodules.synthetic_faces.speech.voices import VOICES

AXES = ("yaw", "pitch", "roll")
HEAD_INTENSITY = (0.8, 7.0)
"""Smallest and largest head intensity in degrees: what real speakers do, see docs/synthetic_benchmark.md."""
MOUTH_INTENSITY = (0.66, 0.95)
BLINK_INTENSITY = (0.35, 2.5)
TRAITS = (
    ("face_width", "jaw_width"), ("chin_length", "nose_length"), ("eye_size", "eye_open"), ("mouth_width", "lip_lower"),
)  # fmt: skip
"""Shape parameters, in pairs, that a style may hang on: what is seen best."""
_PITCH_RANGES, _RATES = ([getattr(voice, name) for voice in VOICES] for name in ("pitch_range", "rate"))
LIVELINESS = (mean(_PITCH_RANGES), hypot(pstdev(_PITCH_RANGES), 4.9))
_RATE_DEVIATION = (RATE_SPREAD[1] - RATE_SPREAD[0]) / sqrt(12)  # of a uniform distribution
RATE = (mean(RATE_SPREAD) * mean(_RATES), hypot(pstdev(_RATES), _RATE_DEVIATION * mean(_RATES)))
"""Mean and standard deviation of the delivered pitch range and of the words per minute, over voices and clips.

The second part of each deviation is what ``narration`` adds from clip to clip.
"""
LEVEL_SPREAD = 2.2
"""Standard deviation in dB of the level that a clip is heard at about the one that was drawn, as measured."""
_TIE_SEED = 20_250


def _drawn(quantile: Callable[[float], float]) -> Any:
    """A field with the quantile function of its distribution."""
    return field(metadata={"quantile": quantile})


def _log_uniform(low: float, high: float) -> Any:
    return _drawn(lambda q: low * (high / low) ** q)


def _uniform(low: float, high: float) -> Any:
    return _drawn(lambda q: low + (high - low) * q)


def _normal(std: float) -> Any:
    return _drawn(lambda q: float(std * _clipped_normal(q)))


def _clipped_normal(q: np.ndarray | float) -> np.ndarray:
    return np.clip(norm.ppf(q), -2.0, 2.0)


@dataclass(frozen=True)
class Style:
    """How somebody moves in one clip: numbers, and from what distribution each is drawn."""

    head_intensity: float = _log_uniform(*HEAD_INTENSITY)
    """Standard deviation of the head's rotation in degrees, RMS of the three axes."""
    mouth_intensity: float = _log_uniform(*MOUTH_INTENSITY)
    """Articulation strength beyond what the loudness says; 1 is as wide as the mouth goes."""
    blink_intensity: float = _log_uniform(*BLINK_INTENSITY)
    """Blinks relative to one every three seconds."""
    tempo: float = _uniform(0.6, 1.6)  # cut-off of the fast part of the free head motion in Hz
    pitch_share: float = _log_uniform(0.65, 2.2)  # motion of this axis relative to yaw's
    roll_share: float = _log_uniform(0.45, 1.8)
    expression: float = _log_uniform(0.4, 1.4)
    """Strength of brows, smiles and all face motion that is not speech."""
    gaze: float = _uniform(0.1, 0.6)  # how often the eyes leave the camera, 0..1
    smile: float = _uniform(-0.03, 0.2)  # resting lift of the mouth corners
    rest_yaw: float = _normal(6.0)  # mean head pose in degrees
    rest_pitch: float = _normal(3.5)
    rest_roll: float = _normal(2.5)
    rest_x: float = _normal(0.04)  # mean head position in head radii
    rest_y: float = _normal(0.03)
    response: tuple[tuple[float, ...], ...] = field(kw_only=True)
    """For each of ``AXES`` how the head answers to each of ``DRIVE_NAMES``, about standard normal."""

    @classmethod
    def from_quantiles(cls, q: np.ndarray) -> "Style":
        """The style at the quantiles ``q (QUANTILES,)``, each in (0, 1), of the population."""
        own = [f for f in fields(cls) if f.metadata]
        numbers = {f.name: f.metadata["quantile"](x) for f, x in zip(own, q.tolist(), strict=False)}
        answers = _clipped_normal(q[len(own) :]).reshape(len(AXES), -1)
        return cls(**numbers, response=tuple(map(tuple, answers.tolist())))

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Style":
        """Draws a style; every number is independent of the others."""
        return cls.from_quantiles(_inside(rng.random(QUANTILES)))

    @property
    def axis_shares(self) -> np.ndarray:
        """Standard deviation of each of ``AXES`` ``(3,)`` relative to ``head_intensity``; their mean square is 1."""
        shares = np.array([1.0, self.pitch_share, self.roll_share])
        return shares / np.sqrt(np.mean(np.square(shares)))


QUANTILES = len(fields(Style)) - 1 + len(AXES) * len(DRIVE_NAMES)


def _inside(q: np.ndarray) -> np.ndarray:
    return np.clip(q, 1e-4, 1 - 1e-4)


def quantiles_of_looks(person: Identity) -> np.ndarray:
    """Style quantiles ``(QUANTILES,)`` that are a fixed function of a person's shape: who is seen tells how they move.

    All of them hang on ``TRAITS`` alone, so that some fifty people are enough to learn the function from.
    """
    traits = np.array([sum(person[name] for name in names) / np.sqrt(len(names)) for names in TRAITS])
    table = np.random.default_rng(_TIE_SEED).normal(size=(QUANTILES, len(TRAITS)))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return _inside(norm.cdf(table @ traits))


def quantiles_of_speech(narration: Narration) -> np.ndarray:
    """Intensity quantiles ``(3,)`` of head, mouth and blinks that the sound tells: level, liveliness of the voice, its rate.

    Rate and liveliness of what the voices say are about normal, and the level's distribution is known, so that the
    quantiles are spread as free ones are.
    """
    voice = narration.voice
    quantiles = (
        _level_quantile(narration.speech_level),
        norm.cdf((voice.pitch_range - LIVELINESS[0]) / LIVELINESS[1]),
        norm.cdf((voice.rate - RATE[0]) / RATE[1]),
    )
    return _inside(np.array(quantiles))


def _level_quantile(level: float) -> float:
    """Share of clips that are quieter than a level in dB: clips' levels are uniform, their sentences normal about them."""
    z = (level - np.array(LEVELS)) / LEVEL_SPREAD
    low, high = z * norm.cdf(z) + norm.pdf(z)  # integral of the normal distribution function
    return LEVEL_SPREAD / (LEVELS[1] - LEVELS[0]) * (low - high)


def draw_style(
    rng: np.random.Generator, performer: Identity, narration: Narration, intensity: str, style: str
) -> Style:
    """The style of a clip; ``rng`` decides what neither looks nor speech do.

    With ``intensity`` ``speech``, not ``free``, the three intensities are functions of what is heard; with ``style``
    ``identity``, not ``free``, all else is a function of the looks, and the intensities unless the speech decides them.
    """
    q = _inside(rng.random(QUANTILES))
    if style == "identity":
        q = quantiles_of_looks(performer)
    if intensity == "speech":
        q[:3] = quantiles_of_speech(narration)  # the intensities of head, mouth and blinks
    return Style.from_quantiles(q)
