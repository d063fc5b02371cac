import numpy as np
import pytest

from datamodules.clips.phones import Phone
from metrics.lip_closure import closed_level, is_bilabial, lip_closure

FRAMES = 250


def spoken(seed: int) -> tuple[np.ndarray, list[Phone]]:
    """Lips that open and close with syllables of 0.28 s, closed while an m is heard, and the phones."""
    generator = np.random.default_rng(seed)
    lips, phones = np.zeros(FRAMES), []
    for start in np.arange(0.2, FRAMES / 25 - 0.6, 0.28):
        label = str(generator.choice(["m", "b", "pʰ", "t", "s", "l"]))
        vowel = start + 0.08
        phones += [Phone(label, start, vowel), Phone("a", vowel, start + 0.28)]
        times = np.arange(FRAMES) / 25
        lips += generator.uniform(0.1, 0.25) * np.exp(-(((times - start - 0.18) / 0.07) ** 2))
        if not is_bilabial(label):
            lips += 0.12 * np.exp(-(((times - start - 0.03) / 0.06) ** 2))
    return lips + 0.01 + 0.002 * generator.normal(size=FRAMES), phones


def test_labels():
    assert all(map(is_bilabial, ("p", "b", "m", "P", "B", "M", "pʰ", "mː", "m̩", "bʲ", "P_B", "EM")))
    assert not any(map(is_bilabial, ("", "f", "v", "w", "n", "pf", "spn", "sil", "EH1", "β", "ə")))


def test_true_lips_close_and_those_of_another_speech_do_not():
    clips = [spoken(seed) for seed in range(6)]
    true = [lip_closure(lips, lips, phones) for lips, phones in clips]
    shuffled = [lip_closure(lips, lips, clips[k - 1][1]) for k, (lips, _) in enumerate(clips)]
    late = [lip_closure(np.roll(lips, 4), lips, phones) for lips, phones in clips]
    assert np.mean(true) > 0.95
    assert np.mean(shuffled) < 0.7
    assert np.mean(late) < 0.5
    assert lip_closure(clips[0][0] * 40, clips[0][0] * 40, clips[0][1]) == true[0]  # any unit


def test_closed_is_a_level_of_the_real_clip():
    lips, phones = spoken(0)
    assert closed_level(np.linspace(0, 1, 101)) == pytest.approx(0.05 + 0.2 * 0.9)
    assert lip_closure(lips + 0.1, lips, phones) == 0  # moves as it should, and never shuts
    assert lip_closure(0.3 * lips, lips, phones) == 1
    assert np.isnan(lip_closure(np.full(FRAMES, 0.01), lips, phones))  # at rest
    assert np.isnan(closed_level(np.full(5, np.nan)))


def test_what_cannot_be_seen_or_heard_is_left_out():
    lips, phones = spoken(1)
    hidden = lips.copy()
    first = next(phone for phone in phones if is_bilabial(phone.label))
    hidden[: int(first.end * 25) + 2] = np.nan
    assert lip_closure(hidden, lips, phones) == pytest.approx(lip_closure(lips, lips, phones), abs=0.1)
    assert np.isnan(lip_closure(hidden, lips, [first]))
    assert np.isnan(lip_closure(lips, lips, []))
    assert np.isnan(lip_closure(lips, lips, [Phone("m", 20.0, 20.1)]))  # beyond the end
    assert np.isnan(lip_closure(lips, lips, [Phone("a", 1.0, 1.1)]))
    assert np.isnan(lip_closure(np.full(FRAMES, np.nan), lips, phones))
