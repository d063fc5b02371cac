"""How somebody moves: numbers drawn freely for a clip, or read off somebody's looks."""

from dataclasses import asdict, dataclass
from math import hypot, sqrt
from statistics import mean, pstdev

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


@dataclass(frozen=True)
class Style:
    """How somebody moves in one clip.

    Attributes:
        head_intensity: standard deviation of the head's rotation in degrees, RMS of the three axes.
        mouth_intensity: articulation strength beyond what the loudness says; 1 is as wide as the mouth goes.
        blink_intensity: blinks relative to one every three seconds.
        tempo: cut-off of the fast part of the free head motion in Hz.
        pitch_share, roll_share: motion of these axes relative to yaw's.
        expression: strength of brows, smiles and all face motion that is not speech.
        gaze: how often the eyes leave the camera, 0..1.
        smile: resting lift of the mouth corners.
        rest_yaw, rest_pitch, rest_roll: mean head pose in degrees.
        rest_x, rest_y: mean head position in head radii.
        response: for each of ``AXES`` how the head answers to each of ``DRIVE_NAMES``, about standard normal.
    """

    head_intensity: float
    mouth_intensity: float
    blink_intensity: float
    tempo: float
    pitch_share: float
    roll_share: float
    expression: float
    gaze: float
    smile: float
    rest_yaw: float
    rest_pitch: float
    rest_roll: float
    rest_x: float
    rest_y: float
    response: tuple[tuple[float, ...], ...]

    @classmethod
    def from_quantiles(cls, q: np.ndarray) -> "Style":
        """The style at the quantiles ``q (QUANTILES,)``, each in (0, 1), of the population."""
        place = iter(q.tolist())

        def log_uniform(low: float, high: float) -> float:
            return float(low * (high / low) ** next(place))

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * next(place)

        def normal(std: float) -> float:
            return float(std * np.clip(norm.ppf(next(place)), -2.0, 2.0))

        return cls(
            head_intensity=log_uniform(*HEAD_INTENSITY),
            mouth_intensity=log_uniform(*MOUTH_INTENSITY),
            blink_intensity=log_uniform(*BLINK_INTENSITY),
            tempo=uniform(0.6, 1.6),
            pitch_share=log_uniform(0.65, 2.2),
            roll_share=log_uniform(0.45, 1.8),
            expression=log_uniform(0.4, 1.4),
            gaze=uniform(0.1, 0.6),
            smile=uniform(-0.03, 0.2),
            rest_yaw=normal(6.0),
            rest_pitch=normal(3.5),
            rest_roll=normal(2.5),
            rest_x=normal(0.04),
            rest_y=normal(0.03),
            response=tuple(tuple(normal(1.0) for _ in DRIVE_NAMES) for _ in AXES),
        )

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Style":
        """Draws a style; every number is independent of the others."""
        return cls.from_quantiles(_inside(rng.random(QUANTILES)))

    @property
    def axis_shares(self) -> np.ndarray:
        """Standard deviation of each of ``AXES`` ``(3,)`` relative to ``head_intensity``; their mean square is 1."""
        shares = np.array([1.0, self.pitch_share, self.roll_share])
        return shares / np.sqrt(np.mean(np.square(shares)))

    def to_dict(self) -> dict[str, float | list]:
        """The numbers by name, for the clip's annotations."""
        return asdict(self) | {"response": [list(axis) for axis in self.response]}


QUANTILES = 14 + len(AXES) * len(DRIVE_NAMES)
INTENSITY_QUANTILES = 3
"""The first three quantiles are the intensities of head, mouth and blinks."""


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

    def ramp(z: float) -> float:  # integral of the normal distribution function
        return float(z * norm.cdf(z) + norm.pdf(z))

    low, high = ((level - edge) / LEVEL_SPREAD for edge in LEVELS)
    return LEVEL_SPREAD / (LEVELS[1] - LEVELS[0]) * (ramp(low) - ramp(high))


def draw_style(
    rng: np.random.Generator, performer: Identity, narration: Narration, intensity: str, style: str
) -> Style:
    """The style of a clip; ``rng`` decides what neither looks nor speech do.

    Args:
        rng: Source of what is free.
        performer: Whose motion it is.
        narration: What is said.
        intensity: ``free``, or ``speech``: the three intensities are functions of what is heard.
        style: ``free``, or ``identity``: everything else is a function of the looks, and so are the intensities
            unless the speech decides them.
    """
    q = _inside(rng.random(QUANTILES))
    if style == "identity":
        q = quantiles_of_looks(performer)
    if intensity == "speech":
        q[:INTENSITY_QUANTILES] = quantiles_of_speech(narration)
    return Style.from_quantiles(q)
