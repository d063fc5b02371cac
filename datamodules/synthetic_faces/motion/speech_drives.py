"""What of speech can move a head: curves that are functions of the sound and its phonemes alone."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS
from datamodules.synthetic_faces.motion import visemes
from datamodules.synthetic_faces.motion.curves import bell, frame_moments
from datamodules.synthetic_faces.speech.espeak import Phoneme
from datamodules.synthetic_faces.speech.narration import Narration

DRIVE_NAMES = ("nods", "late_nods", "loudness", "onsets", "phrase_fall", "phrase_side", "pauses")
_PHRASE_PAUSE = 0.12  # seconds of silence between two phrases


def stressed_moments(units: list[Phoneme]) -> np.ndarray:
    """Seconds of the middle of each vowel with primary stress, ``(N,)``."""
    moments: list[float] = []
    for unit in units:
        middle = 0.5 * (unit.start + unit.end)
        if unit.stress == 2 and (not moments or middle - moments[-1] > 0.15):
            moments.append(middle)
    return np.array(moments)


def speech_drives(narration: Narration, units: list[Phoneme]) -> np.ndarray:
    """Curves ``(T, D)`` in the order of ``DRIVE_NAMES``, each with zero mean and unit std (or zero, in silence)."""
    moments = frame_moments(narration.frames)
    stresses = stressed_moments(units)
    level = visemes.loudness(narration.speech)
    slow = np.maximum(visemes.loudness(narration.speech, 0.22), narration.level - 25.0)
    slow = np.interp(moments, np.arange(len(slow)) / visemes.RATE, slow)
    columns = (
        _nods(moments, stresses, level - narration.level, 0.06, 0.13),
        _nods(moments, stresses, level - narration.level, 0.35, 0.20),
        slow,
        gaussian_filter1d(np.gradient(slow), 3.0, mode="nearest"),
        *_phrase_curves(moments, _phrases(units)),
    )
    return np.stack([unit_curve(column) for column in columns], axis=1)


def unit_curve(curve: np.ndarray) -> np.ndarray:
    """``(T,)`` with zero mean and unit std; zero where the curve is constant."""
    centred = curve - curve.mean()
    spread = centred.std()
    return centred / spread if spread > 1e-9 else np.zeros_like(centred)


def _nods(
    moments: np.ndarray, stresses: np.ndarray, level: np.ndarray, delay: float, width: float
) -> np.ndarray:
    """Sum of short dips after stressed syllables, deeper where the syllable is louder, ``(T,)`` <= 0."""
    if len(stresses) == 0:
        return np.zeros(len(moments))
    here = level[np.minimum((stresses * visemes.RATE).astype(int), len(level) - 1)]
    depth = np.interp(here, (-8.0, 0.0, 6.0), (0.1, 0.7, 1.6))
    nods = np.zeros(len(moments))
    for stress, deep in zip(stresses, depth, strict=True):
        nods -= deep * bell(moments - stress, delay, width)
    return nods


def _phrases(units: list[Phoneme]) -> list[tuple[float, float]]:
    """Start and end in seconds of the stretches of speech between pauses."""
    phrases: list[tuple[float, float]] = []
    for unit in units:
        if not unit.ipa:
            continue
        if phrases and unit.start - phrases[-1][1] < _PHRASE_PAUSE:
            phrases[-1] = (phrases[-1][0], unit.end)
        else:
            phrases.append((unit.start, unit.end))
    return phrases


def _phrase_curves(moments: np.ndarray, phrases: list[tuple[float, float]]) -> list[np.ndarray]:
    """A fall over each phrase; turns to the other side from one to the next; a bump in every pause; ``(T,)`` each."""
    fall, side, speaking = np.zeros((3, len(moments)))
    for number, (start, end) in enumerate(phrases):
        inside = (moments >= start) & (moments < end)
        fall[inside] = 0.5 - (moments[inside] - start) / (end - start)
        side[inside] = (1.0 if number % 2 else -1.0) * min(1.0, 0.3 + 0.4 * (end - start))
        speaking[inside] = 1.0
    smooth = [(fall, 0.15), (side, 0.30), (speaking, 0.12)]
    fall, side, speaking = (gaussian_filter1d(c, seconds * FPS, mode="nearest") for c, seconds in smooth)
    return [fall, side, 1.0 - speaking]
