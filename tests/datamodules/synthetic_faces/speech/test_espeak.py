import re
import time
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.manifest import SPLITS
from datamodules.errors import UserError
from datamodules.synthetic_faces.motion.visemes import PHONEME_TABLE, split_phonemes
from datamodules.synthetic_faces.speech.espeak import synthesise_speech
from datamodules.synthetic_faces.speech.narration import narrate, sentences
from datamodules.synthetic_faces.speech.voices import VOICES, Voice, voices_of

pytest.importorskip("espeakng_loader")


def test_same_words_give_same_bytes_a_second_later() -> None:
    # This voice has noise that the clock seeds unless the seed is set.
    voice = next(voice for voice in VOICES if voice.espeak == "es+f1")
    texts = ["Buenas tardes.", "Mañana vamos al museo."]
    first = synthesise_speech(texts, voice)
    time.sleep(1.1)
    for one, other in zip(first, synthesise_speech(texts, voice), strict=True):
        assert one.waveform.tobytes() == other.waveform.tobytes()
        assert one.phonemes == other.phonemes


def test_phonemes_cover_the_waveform_without_gaps() -> None:
    [spoken] = synthesise_speech(["Please bring Bob the purple map, before five."], VOICES[0])
    duration = len(spoken.waveform) / 16_000
    assert 1.5 < duration < 5
    assert spoken.phonemes[0].start == 0.0
    assert spoken.phonemes[-1].end == pytest.approx(duration, abs=1e-3)
    assert all(before.start < before.end == after.start for before, after in pairwise(spoken.phonemes))
    sounds = "".join(phoneme.ipa for phoneme in spoken.phonemes)
    assert sounds.count("b") == 4
    assert not set(sounds) & set("ˈˌ()")
    assert any(phoneme.stress == 2 for phoneme in spoken.phonemes)


def test_phoneme_times_agree_with_the_sound() -> None:
    [spoken] = synthesise_speech(["Stop. Papa sat at the top."], VOICES[1])
    levels: dict[bool, list[float]] = {True: [], False: []}
    for sound in spoken.phonemes:
        if sound.ipa[:1] in "ɑɒæa" and sound.end - sound.start > 0.05:  # vowels and pauses
            level = spoken.waveform[int(sound.start * 16_000) : int(sound.end * 16_000)].std()
            levels[bool(sound.ipa)].append(level)
    assert np.median(levels[True]) > 20 * np.median(levels[False])


def test_every_variant_exists() -> None:
    import espeakng_loader

    # espeak-ng would speak with the language's own voice instead, and say nothing.
    known = {path.name for path in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir()}
    assert {voice.variant for voice in VOICES} <= known


def test_every_tenth_voice_speaks() -> None:
    for voice in VOICES[::9]:
        [spoken] = synthesise_speech([sentences(voice.language, voice.split)[0]], voice)
        assert float(np.abs(spoken.waveform).max()) > 0.05
        assert len(spoken.phonemes) > 8


def test_unknown_voice_is_a_user_error() -> None:
    voice = Voice("x", "en", "zz-nowhere", 150, 50, 50, "train")
    with pytest.raises(UserError, match="zz-nowhere"):
        synthesise_speech(["Hello."], voice)


def test_splits_share_neither_voices_nor_sentences() -> None:
    assert len(VOICES) >= 40
    assert len({voice.name for voice in VOICES}) == len({voice.espeak for voice in VOICES}) == len(VOICES)
    # The variant is the throat; the same one in another language is the same speaker.
    throats = [{voice.variant for voice in voices_of(split)} for split in SPLITS]
    assert "" not in set.union(*throats)
    assert len(set.union(*throats)) == sum(len(group) for group in throats)
    for split, feminine in product(SPLITS, (True, False)):
        assert len(voices_of(split, feminine)) >= 3
    for language in {voice.language for voice in VOICES}:
        parts = [set(sentences(language, split)) for split in SPLITS]
        assert all(parts)
        assert len(set.union(*parts)) == sum(len(part) for part in parts)
    assert sum(len(sentences("en", split)) for split in SPLITS) >= 150


@pytest.mark.parametrize(
    ("language", "lips"),
    [
        ("en", "pbmfvwθðszʃʒtdnlkɡŋhjɹiɪɛæɑɔʊuəʌ"), ("de", "pbmfvuʊoɔyʏøœʃ"), ("fr", "pbmfvwuoɔyøœʃʒ"), ("es", "pbmfβwuoʃ"),
        ("it", "pbmfvwuoɔʃ"), ("nl", "pbmfvwuoɔyøœ"),
    ],
)  # fmt: skip
def test_training_sentences_hold_the_sounds_of_their_language(language: str, lips: str) -> None:
    voice = next(voice for voice in voices_of("train") if voice.language == language)
    spoken = synthesise_speech(list(sentences(language, "train")), voice)
    heard = {unit.ipa for one in spoken for unit in split_phonemes(one.phonemes)}
    assert set(lips) <= heard <= set(PHONEME_TABLE)


@pytest.mark.parametrize("language", ["en", "de"])
def test_long_clips_repeat_no_sentence_at_once(language: str) -> None:
    voice = next(voice for voice in voices_of("val") if voice.language == language)
    one = narrate(np.random.default_rng(2), voice, "val", (60.0, 75.0), noisy=True)
    assert 1499 <= one.frames <= 1875
    assert len(one.waveform) == len(one.speech) == 640 * one.frames
    assert one.phonemes[-1].end == pytest.approx(one.frames / 25, abs=0.041)
    stock = sorted(sentences(language, "val"), key=len, reverse=True)
    said = re.findall("|".join(map(re.escape, stock)), one.text)
    assert " ".join(said) == one.text
    assert len(said) > 12
    assert len(set(said[: len(stock)])) == min(len(said), len(stock))
    assert all(first != second for first, second in pairwise(said))


def test_narration_is_a_function_of_the_generator_whose_rate_and_pitch_vary() -> None:
    seeds = (5, 5, 6, 7, 8, 9, 10)
    told = [narrate(np.random.default_rng(s), VOICES[0], "train", (1.0, 1.2), noisy=True) for s in seeds]
    assert told[0].waveform.tobytes() == told[1].waveform.tobytes()
    assert all(25 <= one.frames <= 30 and np.abs(one.waveform).max() <= 1.0 for one in told)
    assert all(0.87 * VOICES[0].rate < one.voice.rate < 1.16 * VOICES[0].rate for one in told)
    assert len({one.voice.rate for one in told}) > 3
    assert len({one.voice.pitch for one in told}) > 2
    assert {one.voice.name for one in told} == {VOICES[0].name}
