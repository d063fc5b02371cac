"""Recorded speech: its sentences and sounds, by an alignment or recognised, and the clips that are spoken by it."""

import importlib.util
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from datamodules.batches import SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.media.audio import write_wav
from datamodules.synthetic_faces.clips import perform
from datamodules.synthetic_faces.motion.visemes import mouth_curves, split_phonemes
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.speech import recorded
from datamodules.synthetic_faces.speech.espeak import Phoneme, Utterance, synthesise_speech
from datamodules.synthetic_faces.speech.recorded import ipa, require_recordings, speak_recorded
from datamodules.synthetic_faces.speech.voices import VOICES, recorded_voice

TEXTS = [
    "Bob may help the farmers on Monday.",
    "We saw a small boat below the old bridge.",
    "Pass me the map and the lamp.",
]
SILENCE = 0.5


@pytest.fixture(scope="module")
def spoken() -> list[Utterance]:
    return synthesise_speech(TEXTS, next(voice for voice in VOICES if voice.espeak == "en-us+m3"))


@pytest.fixture
def folder(spoken: list[Utterance], tmp_path: Path) -> Path:
    """A recording of three sentences, half a second apart, with its alignment."""
    pieces, lines, end = [], ["start,end,phone"], 0.0
    for one in spoken:
        pieces += [np.zeros(int(SILENCE * SAMPLE_RATE), dtype=np.float32), one.waveform]
        lines.append(f"{end},{end + SILENCE},sil")
        end += SILENCE
        lines += [f"{end + sound.start},{end + sound.end},{sound.ipa}" for sound in one.phonemes]
        end += len(one.waveform) / SAMPLE_RATE
    write_wav(tmp_path / "anna.wav", np.concatenate(pieces))
    (tmp_path / "anna.phones.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def voice_of(folder: Path, tract: float = 1.0):
    voice = recorded_voice(np.random.default_rng(0), recorded.recordings(folder))
    assert voice.name.startswith("recorded_anna_")
    assert 0.92 <= voice.tract <= 1.1
    return replace(voice, tract=tract)


@pytest.mark.parametrize("tract", [1.0, 1.1])
def test_sentences_are_cut_at_pauses_and_keep_their_sounds(
    folder: Path, spoken: list[Utterance], tract: float
):
    found = speak_recorded(np.random.default_rng(0), voice_of(folder, tract), 12.0)
    assert sum(len(one.waveform) for one in found) >= 12.0 * SAMPLE_RATE
    said = {tuple(sound.ipa for sound in one.phonemes if sound.ipa): one for one in spoken}
    for one in found[:3]:
        original = said[tuple(sound.ipa for sound in one.phonemes)]
        sounding = [sound for sound in original.phonemes if sound.ipa]
        seconds = (sounding[-1].end - sounding[0].start) / tract
        assert len(one.waveform) / SAMPLE_RATE == pytest.approx(seconds, abs=0.01)
        assert one.phonemes[0].start == 0.0
        assert all(first.end == second.start for first, second in pairwise(one.phonemes))
        middle = sounding[len(sounding) // 2]
        begun = one.phonemes[len(sounding) // 2].start
        assert begun == pytest.approx((middle.start - sounding[0].start) / tract, abs=0.02)
    assert len({len(one.waveform) for one in found[:3]}) == 3  # one after the other, not one again and again


def test_labels_of_alignments_are_ipa_or_arpabet():
    assert [ipa(label) for label in ("AA1", "NG", "hh", "ʃ", "t̪")] == ["ɑ", "ŋ", "h", "ʃ", "t̪"]
    assert {ipa(label) for label in ("sil", "", "SPN", "+NSN+", "<eps>", "[noise]")} == {""}


def test_heads_of_train_alone_speak_with_them_and_the_folders_content_counts(folder: Path):
    settings = Settings(30, identities=30, seconds=(1.0, 1.5), recordings=str(folder), recorded_voices=0.5)
    settings.check()
    plans = plan_clips(settings)
    voices = {plan.split: set() for plan in plans}
    for plan in plans:
        narration = perform(plan, settings).narration
        voices[plan.split].add(narration.voice.name.partition("_")[0] == "recorded")
        if narration.voice.recording:
            assert narration.voice.recording.startswith(str(folder))
            assert np.abs(narration.waveform).max() > 0.01
            assert all(one.end == pytest.approx(two.start) for one, two in pairwise(narration.phonemes))
    assert voices == {"train": {True, False}, "val": {False}, "test": {False}}
    kept = settings.to_dict()
    moved = folder.rename(folder.with_name("elsewhere"))
    assert replace(settings, recordings=str(moved)).to_dict() == kept
    recorded.recordings_digest.cache_clear()
    (moved / "anna.phones.csv").write_text("start,end,phone\n0,1,a\n")
    assert replace(settings, recordings=str(moved)).to_dict() != kept


def test_what_cant_be_spoken_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="--recordings"):
        Settings(30, recorded_voices=0.5).check()
    for more, told in (
        ({"recorded_voices": 0.0}, "--recordings .*--recorded-voices"),
        ({"natural_voices": 0.6}, "--natural-voices"),
        ({"intensity": "speech"}, "--intensity speech"),
    ):
        with pytest.raises(UserError, match=told):
            replace(Settings(30, recordings=str(folder), recorded_voices=0.5), **more).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no recordings"):
        require_recordings(tmp_path / "empty")
    require_recordings(folder)
    known = voice_of(folder)
    (folder / "anna.phones.csv").unlink()
    monkeypatch.setattr(recorded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"anna\.TextGrid.*ifmdm\[recorded\]"):
        require_recordings(folder)
    write_wav(folder / "silence.wav", np.zeros(SAMPLE_RATE, dtype=np.float32))
    (folder / "silence.phones.csv").write_text("start,end,phone\n0,1,sil\n")
    voice = replace(known, recording=str(folder / "silence.wav"))
    with pytest.raises(UserError, match="nobody speaks"):
        speak_recorded(np.random.default_rng(0), voice, 1.0)


@pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None,
    reason="the extra 'recorded' is not installed: pip install 'ifmdm[recorded]'",
)
def test_lips_of_recognised_sounds_go_with_the_speech(spoken: list[Utterance]):
    """Of a synthesised voice the truth is known: the jaw by recognised sounds follows it."""
    for one in spoken:
        rest = np.zeros(SAMPLE_RATE, dtype=np.float32)
        heard = recorded._recognised(np.concatenate([rest, one.waveform, rest]))
        found = [Phoneme(ipa(phone.label), phone.start - 1, phone.end - 1) for phone in heard]
        seconds = len(one.waveform) / SAMPLE_RATE
        sounding = [sound for sound in found if sound.ipa]
        assert sounding[0].start == pytest.approx(0, abs=0.3)
        assert sounding[-1].end == pytest.approx(seconds, abs=0.4)
        frames = int(25 * seconds)
        true, guessed = (
            mouth_curves(split_phonemes(sounds), np.ones(8), frames) for sounds in (one.phonemes, found)
        )
        likeness = np.corrcoef(true["jaw_open"], guessed["jaw_open"])[0, 1]
        assert likeness > 0.3, one.text
