"""Mouth shapes of speech sounds, blended by dominance functions (Cohen and Massaro, 1993).

Each sound pulls every control of the mouth towards its own target, with a weight that falls off
exponentially before and after it; the curve is the weighted mean of all targets. So a vowel after p is
smaller than a long one, and lips round before the u is heard: through consonants that leave the lips free, up
to 0.3 s before it. Closures (p b m) and lip to teeth (f v) are not averaged: they are reached whatever the
neighbours want. What goes along with single sounds (tongue between the teeth, rolled lips, a raised chin) has
its own pace.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS, SAMPLE_RATE
from datamodules.synthetic_faces.motion.controls import pair
from datamodules.synthetic_faces.motion.curves import frame_moments
from datamodules.synthetic_faces.speech.espeak import Phoneme

RATE = 200  # samples a second of the curves before they are read at the frame centres

BLENDED = ("jaw_open", "lips_part", "lips_wide", "lips_round", "tongue_up")
LEAD = {"jaw_open": 0.045, "lips_part": 0.045, "lips_wide": 0.055, "lips_round": 0.055, "tongue_up": 0.04}
"""Seconds by which the curves are read ahead; with the flanks, half of a vowel's shape is there 0.04 to 0.1 s before."""
ANTICIPATION = {"lips_wide": 1.45, "lips_round": 1.45}
"""How much further the dominance of a sound reaches ahead than behind."""
INSET = 0.05  # most seconds that a neighbour may take from a sound before its dominance falls
CLOSURE_HOLD = 0.05  # shortest full closure in seconds; longer than a frame, so that a frame shows it
SMOOTHING = 0.012


@dataclass(frozen=True)
class Viseme:
    """Targets of one speech sound, by control, and how strongly it insists on them."""

    jaw_open: float
    lips_part: float
    lips_wide: float = 0.0
    lips_round: float = 0.0
    tongue_up: float = 0.0
    lips_press: float = 0.0  # 1 where the lips close, below 1 where they only come near
    lip_tuck: float = 0.0  # 1 where the lower lip touches the upper teeth
    weight: float = 1.0  # dominance at the centre
    reach: float = 0.05  # seconds over which the dominance falls to 1/e
    care: float = 1.0  # share of the weight for wide or round lips, small where they are free


@dataclass(frozen=True)
class Pace:
    """Timing in seconds of a gesture that goes with single sounds."""

    lead: float  # from the full gesture to the start of the sound
    attack: float  # length of the rise
    release: float  # and of the fall


CLOSURE = Pace(lead=0.025, attack=0.06, release=0.06)  # half of it is there some 0.055 s before the sound


_VISEMES = {
    "": Viseme(0.0, 0.0, weight=1.3),
    "pbm": Viseme(0.12, 0.05, lips_press=1.0, weight=0.7, reach=0.04, care=0.3),  # bilabial
    "fv": Viseme(0.12, 0.15, lip_tuck=1.0, weight=0.7, reach=0.04, care=0.3),  # labiodental
    "tdnlɾɲʎ": Viseme(0.2, 0.3, tongue_up=0.7, weight=0.45, reach=0.035, care=0.2),  # alveolar
    "szç": Viseme(0.1, 0.42, lips_wide=0.25, tongue_up=0.4, weight=0.7, reach=0.04, care=0.5),  # sibilant
    "ʃʒʝ": Viseme(0.16, 0.5, lips_round=0.55, tongue_up=0.3, weight=0.75, reach=0.045),  # postalveolar
    "θð": Viseme(0.22, 0.35, tongue_up=1.0, weight=0.55, reach=0.04, care=0.25),  # dental
    "kɡŋxɣhʔʁ": Viseme(0.3, 0.25, weight=0.35, reach=0.035, care=0.15),  # velar
    "ɹr": Viseme(0.26, 0.3, lips_round=0.45, tongue_up=0.3, weight=0.5),  # rhotic
    "β": Viseme(0.12, 0.1, lips_press=0.6, weight=0.6, reach=0.04),
    "ʋ": Viseme(0.15, 0.15, lip_tuck=0.6, weight=0.6, reach=0.04),
    "wʍ": Viseme(0.16, 0.15, lips_wide=-0.3, lips_round=1.0, weight=1.4, reach=0.07),
    "j": Viseme(0.16, 0.35, lips_wide=0.7, weight=0.6),
    "i": Viseme(0.2, 0.42, lips_wide=0.85, reach=0.06),
    "ɪᵻ": Viseme(0.3, 0.4, lips_wide=0.55, weight=0.9),
    "e": Viseme(0.42, 0.45, lips_wide=0.65, reach=0.06),
    "ɛ": Viseme(0.6, 0.5, lips_wide=0.5, reach=0.06),
    "æ": Viseme(0.82, 0.6, lips_wide=0.45, weight=1.1, reach=0.06),
    "a": Viseme(1.0, 0.55, lips_wide=0.2, weight=1.1, reach=0.065),
    "ɑ": Viseme(0.95, 0.45, weight=1.1, reach=0.065),
    "ʌɐ": Viseme(0.65, 0.4, lips_wide=0.1, weight=0.9, reach=0.055),
    "əɚ": Viseme(0.38, 0.32, weight=0.6, reach=0.045),
    "ɜ": Viseme(0.42, 0.35, lips_round=0.2, reach=0.06),
    "ɒ": Viseme(0.78, 0.4, lips_wide=-0.1, lips_round=0.45, weight=1.1, reach=0.065),
    "ɔ": Viseme(0.62, 0.35, lips_wide=-0.2, lips_round=0.7, weight=1.1, reach=0.065),
    "o": Viseme(0.45, 0.3, lips_wide=-0.25, lips_round=0.85, weight=1.1, reach=0.065),
    "ʊɵ": Viseme(0.28, 0.25, lips_wide=-0.2, lips_round=0.75, reach=0.06),
    "uʉ": Viseme(0.2, 0.2, lips_wide=-0.3, lips_round=1.0, weight=1.1, reach=0.07),
    "yʏ": Viseme(0.2, 0.28, lips_wide=-0.1, lips_round=0.9, weight=1.1, reach=0.065),
    "øœ": Viseme(0.42, 0.35, lips_wide=-0.1, lips_round=0.75, weight=1.1, reach=0.065),
}
VISEMES = {symbol: viseme for symbols, viseme in _VISEMES.items() for symbol in symbols or ("",)}

_BLOWN = ({"p": 0.12, "b": 0.08}, Pace(0.0, 0.06, 0.05))
_LOWER_ROLL = dict.fromkeys("pbm", -0.35) | dict.fromkeys("fv", -0.25) | dict.fromkeys("ʃʒʝ", 0.3)
GESTURES: dict[str, tuple[dict[str, float], Pace]] = {
    "tongue_out": ({"θ": 0.9, "ð": 0.75}, Pace(0.04, 0.07, 0.06)),
    "lip_roll_upper": (dict.fromkeys("pbm", -0.3) | dict.fromkeys("ʃʒʝ", 0.25), Pace(0.02, 0.08, 0.07)),
    "lip_roll_lower": (_LOWER_ROLL, Pace(0.02, 0.08, 0.07)),
    "chin_raise": (dict.fromkeys("pbm", 0.25) | {"β": 0.1}, Pace(0.01, 0.10, 0.12)),
    **dict.fromkeys(pair("cheek_puff"), _BLOWN),
    "nostril_flare": (dict.fromkeys("mnŋɲ", 0.2), Pace(0.01, 0.11, 0.15)),
}
"""Further controls by name: targets by sound, and their timing."""

PHONEME_TABLE = tuple(VISEMES)  # speech sounds by the number that annotations store; 0 is silence


def split_phonemes(phonemes: list[Phoneme]) -> list[Phoneme]:
    """Splits diphthongs, affricates and coloured vowels into sounds of ``PHONEME_TABLE``.

    A length mark doubles the share of its sound; unknown symbols (diacritics) are dropped; a sound with no
    known symbol becomes a schwa.
    """
    units: list[Phoneme] = []
    for phoneme in phonemes:
        shares: list[list] = []
        for symbol in phoneme.ipa:
            if symbol in "ː:" and shares:
                shares[-1][1] = 2.0
            elif symbol in VISEMES:
                shares.append([symbol, 1.0])
        if not shares:
            shares = [["ə" if phoneme.ipa else "", 1.0]]
        edges = np.cumsum([0.0] + [share for _, share in shares])
        edges = phoneme.start + edges / edges[-1] * (phoneme.end - phoneme.start)
        for (symbol, _), ends in zip(shares, pairwise(edges.tolist()), strict=True):
            units.append(Phoneme(symbol, *ends, phoneme.stress))
    return units


def mouth_curves(units: list[Phoneme], articulation: np.ndarray, frames: int) -> dict[str, np.ndarray]:
    """Mouth controls of a clip.

    Args:
        units: sounds of ``split_phonemes``.
        articulation: ``(N,)`` at ``RATE``, how wide the mouth moves, around 1; its last value is held.
        frames: T, at 25 fps; frame t shows the moment (t + 0.5) / 25 s.

    Returns:
        Control name to ``(T,)`` curve, for ``BLENDED``, ``lips_press``, ``lip_tuck`` and ``GESTURES``.
    """
    moments = frame_moments(frames)
    time = np.arange(int(np.ceil(frames / FPS * RATE)) + RATE // 2) / RATE  # half a second more, for the lead
    gain = np.interp(time, np.arange(len(articulation)) / RATE, articulation)
    curves = {}
    for name in BLENDED:
        curve = _dominance_blend(units, name, time)
        if name != "tongue_up":
            curve = curve * gain
        curve = gaussian_filter1d(curve, SMOOTHING * RATE)
        low = -1.0 if name == "lips_wide" else 0.0
        curves[name] = np.clip(np.interp(moments + LEAD[name], time, curve), low, 1.0)
    for name in ("lips_press", "lip_tuck"):
        curves[name] = _contact(units, {s: getattr(v, name) for s, v in VISEMES.items()}, CLOSURE, moments)
    strength = np.clip(np.interp(moments, time, gain), 0.0, 1.0)
    for name, (targets, pace) in GESTURES.items():
        curves[name] = strength * _contact(units, targets, pace, moments)
    return curves


def articulation_from_loudness(waveform: np.ndarray) -> np.ndarray:
    """How wide the mouth opens, ``(N,)`` at ``RATE`` and about 1, from 16 kHz speech ``(S,)``: quiet speech is mumbled."""
    return np.interp(loudness(waveform), (-52.0, -36.0, -20.0), (0.35, 0.7, 1.15))


def loudness(waveform: np.ndarray, spread: float = 0.08) -> np.ndarray:
    """Level of ``(S,)`` in dB of full scale, ``(N,)`` at ``RATE``, smoothed over ``spread`` seconds."""
    hop = SAMPLE_RATE // RATE
    power = np.square(waveform[: len(waveform) // hop * hop].astype(np.float64)).reshape(-1, hop).mean(axis=1)
    return 10.0 * np.log10(gaussian_filter1d(power, spread * RATE) + 1e-9)


def phoneme_numbers(units: list[Phoneme], frames: int) -> np.ndarray:
    """Number of the sound in ``PHONEME_TABLE`` at each frame centre, ``(T,)`` int16."""
    numbers = np.zeros(frames, dtype=np.int16)
    moments = frame_moments(frames)
    for unit in units:
        numbers[(moments >= unit.start) & (moments < unit.end)] = PHONEME_TABLE.index(unit.ipa)
    return numbers


def _dominance_blend(units: list[Phoneme], name: str, time: np.ndarray) -> np.ndarray:
    """Sum of dominance times target over sum of dominance, ``(N,)``."""
    ahead = ANTICIPATION.get(name, 1.0)
    weighted = np.zeros(len(time))
    total = np.full(len(time), 1e-4)  # rest, where no sound is near
    for unit in units:
        viseme = VISEMES[unit.ipa]
        duration = unit.end - unit.start
        weight = viseme.weight * min(1.0, 0.35 + duration / 0.12) * (1.0 + 0.15 * unit.stress)
        if name in ANTICIPATION:
            weight *= viseme.care
        inset = min(0.25 * duration, INSET)
        before, after = ahead * viseme.reach, viseme.reach
        # Beyond nine times the reach the dominance is below the one of rest.
        near = slice(*np.searchsorted(time, (unit.start - 9.0 * before, unit.end + 9.0 * after)))
        early = np.maximum(unit.start + inset - time[near], 0.0) / before
        late = np.maximum(time[near] - unit.end + inset, 0.0) / after
        dominance = weight * np.exp(-np.maximum(early, late))
        weighted[near] += dominance * getattr(viseme, name)
        total[near] += dominance
    return weighted / total


def _contact(units: list[Phoneme], targets: dict[str, float], pace: Pace, moments: np.ndarray) -> np.ndarray:
    """Curve that is held at the full target during each sound that has one, with smooth flanks, ``(T,)``.

    Where sounds overlap, the target further from 0 holds.
    """
    curve = np.zeros(len(moments))
    for unit in units:
        target = targets.get(unit.ipa, 0.0)
        if target == 0.0:
            continue
        start = unit.start - pace.lead
        end = max(unit.start + 0.75 * (unit.end - unit.start), start + CLOSURE_HOLD)
        near = slice(*np.searchsorted(moments, (start - pace.attack, end + pace.release)))
        distance = np.maximum((start - moments[near]) / pace.attack, (moments[near] - end) / pace.release)
        value = target * (0.5 + 0.5 * np.cos(np.pi * np.clip(distance, 0.0, 1.0)))
        curve[near] = np.where(np.abs(value) > np.abs(curve[near]), value, curve[near])
    return curve
