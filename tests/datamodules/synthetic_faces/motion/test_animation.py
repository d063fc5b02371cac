import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from datamodules.synthetic_faces.motion.animation import animate
from datamodules.synthetic_faces.motion.controls import CONTROL_NAMES
from datamodules.synthetic_faces.motion.eyes import blink_curves
from datamodules.synthetic_faces.motion.style import Style
from datamodules.synthetic_faces.speech.espeak import Phoneme
from datamodules.synthetic_faces.speech.narration import Narration
from datamodules.synthetic_faces.speech.voices import VOICES


def spoken(*sounds: tuple[str, float], level: float = -20.0) -> Narration:
    """A narration of given sounds and durations, whose waveform is noise wherever there is a sound."""
    symbols, lengths = zip(*sounds, strict=True)
    edges = np.cumsum([0.0, *lengths]).tolist()
    spans = zip(symbols, pairwise(edges), strict=True)
    phonemes = [Phoneme(ipa, *span, 2 if ipa in VOWELS else 0) for ipa, span in spans]
    noise = np.random.default_rng(0).standard_normal(640 * int(edges[-1] * 25)).astype(np.float32)
    waveform = noise * 10 ** (level / 20)
    for phoneme in phonemes:
        if not phoneme.ipa:
            waveform[int(phoneme.start * 16_000) : int(phoneme.end * 16_000)] = 0.0
    return Narration(VOICES[0], "", waveform, waveform, phonemes, level)


VOWELS = ("a", "i", "u")
SYLLABLES = (
    ("", 0.4), ("p", 0.09), ("a", 0.2), ("m", 0.08), ("i", 0.2), ("b", 0.06), ("u", 0.2), ("f", 0.1), ("a", 0.2), ("", 0.6),
)  # fmt: skip
REST = {"rest_yaw": 0.0, "rest_pitch": 0.0, "rest_roll": 0.0}


def with_style(**changes: float) -> Style:
    return dataclasses.replace(Style.sample(np.random.default_rng(1)), **changes)


def test_head_intensity_sets_the_head_and_leaves_the_mouth() -> None:
    narration = spoken(*SYLLABLES * 4)
    clips, spread = {}, {}
    for strength in (0.5, 2.0, 6.0):
        style = with_style(head_intensity=strength, **REST)
        clip = clips[strength] = animate(narration, style, np.random.default_rng(2)).controls
        spread[strength] = np.sqrt(np.mean([clip[axis].var() for axis in ("yaw", "pitch", "roll")]))
    assert spread[0.5] == pytest.approx(0.5, rel=0.05)
    assert spread[2.0] == pytest.approx(2.0, rel=0.1)
    assert 4.5 < spread[6.0] < 6.1  # the limits of the neck take some
    for name in ("jaw_open", "lips_part", "lips_press", "blink_left", "brow_left"):
        np.testing.assert_array_equal(clips[0.5][name], clips[6.0][name])


def test_mouth_and_blink_intensity_leave_the_head() -> None:
    narration = spoken(*SYLLABLES * 8)
    quiet = {"mouth_intensity": 0.8}
    styles = [
        with_style(**change) for change in (quiet, {"mouth_intensity": 1.1}, quiet | {"blink_intensity": 4})
    ]
    base, mouth, blinks = (animate(narration, s, np.random.default_rng(2)).controls for s in styles)
    np.testing.assert_array_equal(base["yaw"], mouth["yaw"])
    np.testing.assert_array_equal(base["yaw"], blinks["yaw"])
    np.testing.assert_array_equal(base["jaw_open"], blinks["jaw_open"])
    assert mouth["jaw_open"].mean() > 1.2 * base["jaw_open"].mean()
    assert blinks["blink_left"].mean() > base["blink_left"].mean()


def test_animation_is_a_function_of_its_generator_and_within_range() -> None:
    narration = spoken(*SYLLABLES * 3)
    style = Style.sample(np.random.default_rng(3))
    one, same, other = (animate(narration, style, np.random.default_rng(seed)).controls for seed in (4, 4, 5))
    assert one.values.tobytes() == same.values.tobytes()
    assert np.abs(one["yaw"] - other["yaw"]).max() > 0.01
    assert len(one) == narration.frames
    assert np.isfinite(one.values).all()
    shares = ("blink", "lips_press", "lip_tuck", "upper_lip", "lower_lip", "cheek", "jaw_open")
    for name in (name for name in CONTROL_NAMES if name.startswith(shares)):
        assert 0.0 <= one[name].min() <= one[name].max() <= 1.0, name


def test_more_than_sixty_controls_move_and_few_are_copies() -> None:
    """More than sixty directions hold a thousandth of a curve's variance or more; forty hold no more than 97 % of all."""
    narration = spoken(*SYLLABLES * 12)
    rngs = map(np.random.default_rng, range(12))
    curves = [animate(narration, Style.sample(rng), rng).controls.values for rng in rngs]
    values = np.concatenate(curves).astype(np.float64)
    moving = values[:, values.std(axis=0) > 1e-4]
    assert moving.shape[1] > 60
    standard = (moving - moving.mean(axis=0)) / moving.std(axis=0)
    spectrum = np.linalg.eigvalsh(np.cov(standard.T))
    assert (spectrum > 1e-3).sum() > 60
    assert np.sort(spectrum)[::-1][:40].sum() < 0.97 * spectrum.sum()


def test_camera_stands_still_unless_it_moves() -> None:
    narration = spoken(*SYLLABLES * 3)
    style = Style.sample(np.random.default_rng(3))
    still, moving = (
        animate(narration, style, np.random.default_rng(4), camera).controls for camera in ("still", "moving")
    )
    for name in ("camera_x", "camera_y", "camera_zoom", "camera_roll"):
        assert not still[name].any()
        assert moving[name].std() > 1e-3
    np.testing.assert_array_equal(still["yaw"], moving["yaw"])


def test_blinks_close_fully_and_look_real() -> None:
    left, right = blink_curves(25 * 600, 1.0, np.random.default_rng(0))
    shut = left > 0.5
    starts = np.flatnonzero(shut[1:] & ~shut[:-1]) + 1
    ends = np.flatnonzero(~shut[1:] & shut[:-1]) + 1
    intervals = np.diff(starts) / 25
    assert 2.2 < np.median(intervals) < 3.2
    assert intervals.min() > 0.4
    assert ((ends - starts) <= 6).all()
    assert all(left[start:end].max() > 0.95 for start, end in zip(starts, ends, strict=True))
    assert np.abs(right - left).max() < 0.6  # at most half a frame behind
    assert (left == 0).mean() > 0.85


@pytest.mark.parametrize("intensities", [(0.35,), (1.0,), (2.5,), (0.5, 2.0)])
def test_blinks_come_as_often_as_the_intensity_of_the_moment_says(intensities: tuple[float, ...]) -> None:
    span = 25 * 1500
    levels = np.repeat(intensities, span)
    shut = blink_curves(len(levels), levels, np.random.default_rng(0))[0] > 0.5
    starts = np.flatnonzero(shut[1:] & ~shut[:-1])
    numbers = np.bincount(starts // span)
    np.testing.assert_allclose(numbers, 500 * np.array(intensities), rtol=0.1)
