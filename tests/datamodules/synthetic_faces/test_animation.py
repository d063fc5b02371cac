import numpy as np
import pytest

from datamodules.synthetic_faces import visemes
from datamodules.synthetic_faces.animation import Style, animate, blink_curves, smooth_noise, stressed_moments
from datamodules.synthetic_faces.narration import Narration
from datamodules.synthetic_faces.speech import Phoneme
from datamodules.synthetic_faces.voices import VOICES


def spoken(*sounds: tuple[str, float], level: float = -20.0, seed: int = 0) -> Narration:
    """A narration of given sounds and durations, whose waveform is noise wherever there is a sound."""
    phonemes, time = [], 0.0
    for ipa, seconds in sounds:
        phonemes.append(Phoneme(ipa, time, time + seconds, 2 if ipa in "aiu" and ipa else 0))
        time += seconds
    frames = int(time * 25)
    waveform = np.random.default_rng(seed).standard_normal(640 * frames).astype(np.float32) * 10 ** (
        level / 20
    )
    for phoneme in phonemes:
        if not phoneme.ipa:
            waveform[int(phoneme.start * 16_000) : int(phoneme.end * 16_000)] = 0.0
    return Narration(VOICES[0], "", waveform, waveform, phonemes, level)


def curves(narration: Narration) -> dict[str, np.ndarray]:
    gain = visemes.articulation_from_loudness(narration.speech, 1.0)
    return visemes.mouth_curves(visemes.split_phonemes(narration.phonemes), gain, narration.frames)


SYLLABLES = (
    ("", 0.4),
    ("p", 0.09),
    ("a", 0.2),
    ("m", 0.08),
    ("i", 0.2),
    ("b", 0.06),
    ("u", 0.2),
    ("f", 0.1),
    ("a", 0.2),
    ("", 0.6),
)


def at(narration: Narration, place: int) -> int:
    """Frame in the middle of a sound."""
    sound = narration.phonemes[place]
    return int(0.5 * (sound.start + sound.end) * 25)


def test_lips_close_on_p_b_m_and_touch_the_teeth_on_f() -> None:
    for lead in np.arange(0.0, 0.04, 0.008):  # wherever the closure falls between the frames
        narration = spoken(("", 0.4 + lead), *SYLLABLES[1:])
        mouth = curves(narration)
        for place, sound in enumerate(narration.phonemes):
            around = slice(int(sound.start * 25) - 1, int(sound.end * 25) + 1)
            if sound.ipa in ("p", "b", "m"):
                assert mouth["lips_press"][around].max() == pytest.approx(1.0)
            if sound.ipa == "f":
                assert mouth["lip_tuck"][around].max() == pytest.approx(1.0)
            if sound.ipa == "a":
                assert mouth["lips_press"][at(narration, place)] < 0.1


def test_vowels_have_their_shapes() -> None:
    narration = spoken(*SYLLABLES)
    mouth = curves(narration)
    a, i, u = at(narration, 2), at(narration, 4), at(narration, 6)
    assert mouth["jaw_open"][a] > 2 * mouth["jaw_open"][i]
    assert mouth["lips_wide"][i] > 0.4 > mouth["lips_wide"][u]
    assert mouth["lips_round"][u] > 0.5 > mouth["lips_round"][a]


def test_lips_rest_closed_in_silence_and_round_before_the_sound() -> None:
    narration = spoken(("", 1.0), ("u", 0.3), ("", 1.0))
    mouth = curves(narration)
    for name in ("jaw_open", "lips_part", "lips_press", "lips_round"):
        assert abs(mouth[name][:18]).max() < 0.03
        assert abs(mouth[name][-15:]).max() < 0.03
    assert mouth["lips_round"][24] > 0.3  # 20 ms before the sound


def test_loud_speech_opens_wider() -> None:
    quiet, loud = (curves(spoken(*SYLLABLES, level=level))["jaw_open"].max() for level in (-40.0, -20.0))
    assert loud > 1.4 * quiet


def test_neighbours_pull_short_vowels() -> None:
    frame = (("", 0.3), ("t", 0.08))
    long, short = (
        curves(spoken(*frame, ("a", seconds), *frame[::-1], level=-34))["jaw_open"].max()
        for seconds in (0.3, 0.06)
    )
    assert short < 0.9 * long


def test_diphthongs_are_split_by_length() -> None:
    units = visemes.split_phonemes(
        [Phoneme("aːɪ", 0.0, 0.3, 2), Phoneme("ʘ", 0.3, 0.4), Phoneme("", 0.4, 0.5)]
    )
    assert [unit.ipa for unit in units] == ["a", "ɪ", "ə", ""]
    assert units[0].end == pytest.approx(0.2)
    assert visemes.phoneme_numbers(units, 12)[-1] == 0


def test_head_intensity_sets_the_head_and_leaves_the_mouth() -> None:
    narration = spoken(*SYLLABLES * 4)
    base = Style.sample(np.random.default_rng(1)).to_dict() | {"rest_yaw": 0.0, "rest_pitch": 0.0}
    clips = {
        strength: animate(narration, Style(**(base | {"head_intensity": strength})), np.random.default_rng(2))
        for strength in (0.5, 2.0, 6.0)
    }
    assert clips[0.5]["yaw"].std() == pytest.approx(0.5, rel=0.1)
    assert clips[0.5]["yaw"].std() < clips[2.0]["yaw"].std() < clips[6.0]["yaw"].std() < 6.5
    for name in ("jaw_open", "lips_part", "lips_press", "blink_left"):
        np.testing.assert_array_equal(clips[0.5][name], clips[6.0][name])


def test_animation_is_a_function_of_its_generator_and_within_range() -> None:
    narration = spoken(*SYLLABLES * 3)
    style = Style.sample(np.random.default_rng(3))
    one, same, other = (animate(narration, style, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert one.values.tobytes() == same.values.tobytes()
    assert np.abs(one["yaw"] - other["yaw"]).max() > 0.01
    np.testing.assert_array_equal(one["jaw_open"], other["jaw_open"])
    assert len(one) == narration.frames
    assert np.isfinite(one.values).all()
    for name in (
        "jaw_open",
        "lips_part",
        "lips_press",
        "lips_round",
        "lip_tuck",
        "blink_left",
        "blink_right",
    ):
        assert one[name].min() >= 0.0
        assert one[name].max() <= 1.0


def test_style_spreads_head_intensity_widely() -> None:
    styles = [Style.sample(np.random.default_rng(seed)) for seed in range(200)]
    head = np.array([style.head_intensity for style in styles])
    assert head.min() < 0.4
    assert head.max() > 6.5
    for name in ("mouth_intensity", "blink_intensity"):
        assert abs(np.corrcoef(np.log(head), [getattr(style, name) for style in styles])[0, 1]) < 0.2


def test_head_motion_is_slow() -> None:
    noise = smooth_noise(4000, 1.0, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(4000, 1 / 25)
    assert power[frequency > 3.0].sum() < 0.01 * power.sum()


def test_blinks_close_fully_and_look_real() -> None:
    left, right = blink_curves(25 * 600, 1.0, np.random.default_rng(0))
    shut = left > 0.5
    starts = np.flatnonzero(shut[1:] & ~shut[:-1]) + 1
    ends = np.flatnonzero(~shut[1:] & shut[:-1]) + 1
    intervals = np.diff(starts) / 25
    assert 2.5 < np.median(intervals) < 4.0
    assert intervals.min() > 1.0
    assert ((ends - starts) <= 6).all()
    assert all(left[start:end].max() > 0.95 for start, end in zip(starts, ends, strict=True))
    assert (right <= left).all()
    assert (left == 0).mean() > 0.85


def test_head_nods_where_syllables_are_stressed() -> None:
    narration = spoken(*SYLLABLES * 6)
    stresses = stressed_moments(visemes.split_phonemes(narration.phonemes))
    assert len(stresses) == 6 * 4
    base = Style.sample(np.random.default_rng(1)).to_dict() | {"head_intensity": 2.0, "sway": 0.0}
    with_nods, without = (
        animate(narration, Style(**(base | {"nod": nod})), np.random.default_rng(7))["pitch"]
        for nod in (1.0, 0.0)
    )
    moments = (np.arange(narration.frames) + 0.5) / 25
    near = np.abs(moments[:, None] - stresses[None] - 0.06).min(axis=1) < 0.05
    difference = with_nods - without
    assert difference.max() <= 1e-4
    assert difference[near].mean() < 2 * difference[~near].mean()
