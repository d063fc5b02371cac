"""The natural voice: its sounds are said when it says that they are."""

import importlib.util
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from datamodules.batches import SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.synthetic_faces.clips import perform
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.speech import natural
from datamodules.synthetic_faces.speech.natural import speak_naturally
from datamodules.synthetic_faces.speech.voices import natural_voice

installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hibari", "onnx")),
    reason="the extra 'voices' is not installed: pip install 'ifmdm[voices]'",
)
TEXTS = [
    "She sells fresh cheese in the same small shop.",
    "This is a sunny Saturday, and six sisters sing.",
    "Much of the sea is as still as glass.",
]


def voice(feminine: bool):
    return natural_voice(np.random.default_rng(1), feminine)


@installed
@pytest.mark.parametrize("feminine", [True, False])
def test_hisses_are_where_the_sounds_say(feminine):
    inside, outside = [], []
    for spoken in speak_naturally(TEXTS, voice(feminine)):
        for sound in spoken.phonemes:
            wave = spoken.waveform[int(sound.start * SAMPLE_RATE) : int(sound.end * SAMPLE_RATE)]
            power = np.abs(np.fft.rfft(wave)) ** 2
            high = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE) > 3000
            if len(wave) > 400 and sound.ipa:
                share = power[high].sum() / power.sum()
                (inside if sound.ipa[0] in "szʃʒ" else outside).append(share)
    assert len(inside) > 10
    assert np.median(inside) > 10 * np.median(outside)


@installed
def test_sounds_follow_each_other_from_the_beginning_to_the_end():
    for spoken in speak_naturally(TEXTS, voice(True)):
        assert spoken.phonemes[0].start == 0.0
        assert all(one.end == two.start for one, two in pairwise(spoken.phonemes))
        assert spoken.phonemes[-1].end == pytest.approx(len(spoken.waveform) / SAMPLE_RATE, abs=0.002)
        assert {one.ipa for one in spoken.phonemes} > {"", "s"}
        assert not {"ˈ", "ˌ", " ", ".", ","} & {letter for one in spoken.phonemes for letter in one.ipa}
        assert max(one.stress for one in spoken.phonemes) == 2


@installed
def test_the_same_words_give_the_same_samples_and_other_rates_other_lengths():
    first, second = (speak_naturally(TEXTS[:1], voice(True))[0] for _ in range(2))
    assert np.array_equal(first.waveform, second.waveform)
    slow = speak_naturally(TEXTS[:1], replace(voice(True), rate=voice(True).rate // 2))[0]
    assert len(slow.waveform) > 1.5 * len(first.waveform)
    short = replace(voice(True), tract=voice(True).tract * 1.2)  # a shorter throat speaks no faster
    assert len(speak_naturally(TEXTS[:1], short)[0].waveform) == pytest.approx(
        len(first.waveform), rel=0.15
    )  # durations are whole frames


@installed
def test_men_speak_lower_than_women():
    def pitch(feminine: bool) -> float:
        wave = speak_naturally(TEXTS[2:], voice(feminine))[0].waveform
        best = []
        for start in range(0, len(wave) - 1024, 512):
            part = wave[start : start + 1024] - wave[start : start + 1024].mean()
            alike = np.correlate(part, part, "full")[1023:]
            if alike[0] > 1.0 and alike[40:250].max() > 0.6 * alike[0]:
                best.append(SAMPLE_RATE / (40 + int(alike[40:250].argmax())))
        return float(np.median(best))

    assert 80 < pitch(False) < 150 < pitch(True) < 300


@installed
def test_only_heads_of_train_speak_so_and_all_others_as_before():
    settings = Settings(20, size=32, identities=20, seconds=(1.0, 1.5))
    spoken = replace(settings, natural_voices=1.0)
    for plan in [one for one in plan_clips(settings) if one.index < 3]:  # one of each split
        before, now = (perform(plan, one).narration for one in (settings, spoken))
        assert now.voice.natural == (plan.split == "train")
        assert np.array_equal(before.waveform, now.waveform) == (plan.split != "train")


def test_settings_of_before_are_still_the_same():
    assert "natural_voices" not in Settings(20).to_dict()
    assert Settings(20, natural_voices=0.5).to_dict()["natural_voices"] == 0.5
    with pytest.raises(UserError, match="natural-voices 2: a share"):
        Settings(20, natural_voices=2).check()


def test_without_the_extra_it_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(natural.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"ifmdm\[voices\]"):
        natural.require_natural_voice()
