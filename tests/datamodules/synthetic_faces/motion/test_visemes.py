from itertools import pairwise

import numpy as np
import pytest

from datamodules.synthetic_faces.motion import visemes
from datamodules.synthetic_faces.motion.controls import CONTROL_NAMES
from datamodules.synthetic_faces.motion.visemes import GESTURES, PHONEME_TABLE, VISEMES, split_phonemes
from datamodules.synthetic_faces.speech.espeak import Phoneme

VOWELS = "aiuəɛɔ"
Sounds = tuple[tuple[str, float], ...]


def curves(sounds: Sounds, start: float = 0.0, strength: float = 1.0) -> dict[str, np.ndarray]:
    """Mouth curves of sounds with their lengths, after a silence of ``start`` seconds."""
    symbols, lengths = zip(("", start), *sounds, strict=True)
    edges = np.cumsum([0.0, *lengths]).tolist()
    units = [Phoneme(ipa, *span) for ipa, span in zip(symbols, pairwise(edges), strict=True)]
    return visemes.mouth_curves(units, np.full(int(edges[-1] * visemes.RATE), strength), int(edges[-1] * 25))


def fine_curve(sounds: Sounds, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Moments and values of a control every 5 ms, from frames that fall at eight places between the sounds."""
    starts = np.arange(0.4, 0.439, 0.005)
    values = [curves(sounds, start)[name] for start in starts]
    moments = [
        (np.arange(len(curve)) + 0.5) / 25 - start for curve, start in zip(values, starts, strict=True)
    ]
    order = np.argsort(np.concatenate(moments))
    return np.concatenate(moments)[order], np.concatenate(values)[order]


def half_rise(sounds: Sounds, place: int, name: str) -> float:
    """Seconds from the start of a sound to the moment when the control has half of its height."""
    moments, values = fine_curve(sounds, name)
    start = sum(seconds for _, seconds in sounds[:place])
    during = (moments > start - 0.1) & (moments < start + sounds[place][1])
    peak = int(np.argmax(np.where(during, values, -np.inf)))
    low = values[(moments > start - 0.5) & (moments < start)].min()
    below = np.flatnonzero(values[:peak] < 0.5 * (low + values[peak]))
    return float(moments[below[-1]] - start)


@pytest.mark.parametrize(
    ("sound", "seconds", "name"),
    [
        *(
            (vowel, seconds, name)
            for vowel, name in (("u", "lips_round"), ("o", "lips_round"), ("i", "lips_wide"), ("a", "jaw_open"))
            for seconds in (0.1, 0.2)
        ),
        ("m", 0.08, "lips_press"), ("p", 0.08, "lips_press"), ("f", 0.08, "lip_tuck"),
    ],
)  # fmt: skip
def test_lips_lead_the_sound(sound: str, seconds: float, name: str) -> None:
    contact = name in ("lips_press", "lip_tuck")
    before = (("", 0.3), ("a", 0.15)) if contact else (("", 0.6),)
    after = (("a", 0.2), ("", 0.5)) if contact else (("", 0.5),)
    assert -0.1 <= half_rise((*before, (sound, seconds), *after), len(before), name) <= -0.04


def test_rounding_reaches_through_consonants_that_leave_the_lips_free() -> None:
    free = (("", 0.3), ("a", 0.12), ("s", 0.1), ("t", 0.08), ("u", 0.2), ("", 0.5))
    start = sum(seconds for _, seconds in free[:4])
    moments, rounding = fine_curve(free, "lips_round")
    before = [float(np.interp(start - lead, moments, rounding)) for lead in (0.3, 0.2, 0.1, 0.0)]
    assert before == sorted(before)
    assert before[0] < 0.1 * before[3]  # nothing much before 0.3 s
    assert before[1] > 0.1 * before[3]
    assert before[2] > 0.4 * before[3]
    unrounded = (*free[:4], ("i", 0.2), free[5])
    moments, rounding = fine_curve(unrounded, "lips_round")
    assert float(np.interp(start - 0.1, moments, rounding)) < 0.05


@pytest.mark.parametrize("sound", ["p", "b", "m"])
@pytest.mark.parametrize("seconds", [0.025, 0.05, 0.12])
def test_closures_are_full_whatever_the_neighbours_and_the_rate(sound: str, seconds: float) -> None:
    for vowel in (*VOWELS, "s", "w", "l"):
        for start in np.arange(0.2, 0.24, 0.01):
            sounds = ((vowel, 2 * seconds), (sound, seconds), (vowel, 2 * seconds), ("", 0.3))
            press = curves(sounds, start, strength=1.3)["lips_press"]
            onset = start + 2 * seconds
            around = slice(int((onset - 0.04) * 25), int((onset + seconds) * 25) + 1)
            assert press[around].max() == pytest.approx(1.0)
            assert press[: max(int((onset - 0.12) * 25), 0)].sum() == 0.0


def test_every_speech_sound_is_reached() -> None:
    for ipa in PHONEME_TABLE:
        [unit] = split_phonemes([Phoneme(ipa, 0.2, 0.4)])
        assert unit.ipa == ipa
        numbers = visemes.phoneme_numbers([Phoneme("", 0.0, 0.2), unit], 10)
        assert PHONEME_TABLE[numbers[-2]] == ipa
    assert len(set(PHONEME_TABLE)) == len(PHONEME_TABLE)
    assert {symbol for targets, _ in GESTURES.values() for symbol in targets} <= set(VISEMES)


def test_curves_are_controls_in_range_that_move_and_rest_in_silence() -> None:
    assert all(np.abs(curve).max() < 1e-6 for curve in curves((("", 1.0),)).values())
    sounds = tuple((ipa, 0.09) for ipa in PHONEME_TABLE) * 2
    found = curves(sounds, strength=1.3)
    assert set(found) <= set(CONTROL_NAMES)
    for name, curve in found.items():
        assert np.isfinite(curve).all()
        low = -1.0 if name in ("lips_wide", "lip_roll_upper", "lip_roll_lower") else 0.0
        assert low <= curve.min() <= curve.max() <= 1.0
        assert np.abs(curve).max() > 0.04


def test_gestures_go_with_their_sounds() -> None:
    def strongest(sound: str, name: str) -> float:
        curve = curves((("", 0.3), ("a", 0.2), (sound, 0.1), ("a", 0.2), ("", 0.3)))[name]
        return float(curve[np.argmax(np.abs(curve))])

    assert strongest("θ", "tongue_out") > 0.8
    assert strongest("t", "tongue_out") == 0.0
    assert strongest("m", "lip_roll_lower") < -0.2
    assert strongest("m", "chin_raise") > 0.15
    assert strongest("p", "cheek_puff_left") > strongest("m", "cheek_puff_left") == 0.0
    assert strongest("n", "nostril_flare") > 0.1 > strongest("t", "nostril_flare")
