import numpy as np
import pytest
from scipy.signal import correlate

from datamodules.synthetic_faces.speech import narration, room
from datamodules.synthetic_faces.speech.espeak import Phoneme, Utterance
from datamodules.synthetic_faces.speech.narration import Narration, narrate
from datamodules.synthetic_faces.speech.room import NOISE_KINDS, background_noise
from datamodules.synthetic_faces.speech.voices import VOICES, Voice


def murmur(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes four times a second."""
    envelope = np.maximum(np.sin(2 * np.pi * 4 * np.arange(samples) / 16_000), 0.0)
    return (0.1 * envelope * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def quick_speech(texts: list[str], voice: Voice) -> list[Utterance]:
    """Sentences of 1.5 s without the synthesiser."""
    sounds = [Phoneme("a", 0.0, 1.5, 2)]
    return [Utterance(text, murmur(24_000, seed), sounds) for seed, text in enumerate(texts)]


def lag(heard: np.ndarray, dry: np.ndarray) -> int:
    """Samples by which ``heard`` is late."""
    return int(np.argmax(correlate(heard, dry, method="fft"))) - (len(dry) - 1)


@pytest.fixture(autouse=True)
def _no_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narration, "synthesise_speech", quick_speech)


def narrations(count: int, noisy: bool, seconds: tuple[float, float] = (4.0, 8.0)) -> list[Narration]:
    rngs = map(np.random.default_rng, range(count))
    return [narrate(rng, VOICES[0], "train", seconds, noisy) for rng in rngs]


def said(one: Narration) -> list[np.ndarray]:
    """The sound of each sentence."""
    return [one.speech[int(s.start * 16_000) : int(s.end * 16_000)] for s in one.phonemes if s.ipa]


def test_direct_sound_comes_first_and_the_echo_decays_and_delays_nothing() -> None:
    dry = murmur(48_000)
    for seed in range(30):
        response = room.room_response(np.random.default_rng(seed))
        assert response[0] == 1.0
        assert room.RT60[0] <= len(response) / 16_000 <= room.RT60[1] + 1e-4
        echo = np.square(response[1:])
        ratio = -10 * np.log10(echo.sum())
        assert room.DIRECT_TO_ECHO[0] - 0.1 <= ratio <= room.DIRECT_TO_ECHO[1] + 0.1
        assert np.abs(response[1:]).max() < 0.6
        quarter = len(echo) // 4
        assert echo[-quarter:].mean() < 1e-2 * echo[:quarter].mean()
        heard = room.reverberate(dry, response)
        assert len(heard) == len(dry)
        assert lag(heard, dry) == 0
        assert 0.8 < heard.std() / dry.std() < 1.3


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_has_unit_power_and_follows_the_generator(kind: str) -> None:
    one, other, third = (background_noise(np.random.default_rng(seed), kind, 40_000) for seed in (1, 1, 2))
    assert np.mean(np.square(one)) == pytest.approx(1.0, rel=1e-6)
    assert one.tobytes() == other.tobytes()
    assert abs(np.corrcoef(one, third)[0, 1]) < 0.9


def test_noises_differ_in_kind() -> None:
    def share_below(noise: np.ndarray, hertz: float) -> float:
        power = np.square(np.abs(np.fft.rfft(noise)))
        return float(power[: int(hertz * len(noise) / 16_000)].sum() / power.sum())

    def unrest(noise: np.ndarray) -> float:
        level = np.square(noise).reshape(-1, 800).mean(axis=1)
        return float(level.std() / level.mean())

    pink, hum, babble = (background_noise(np.random.default_rng(0), kind, 80_000) for kind in NOISE_KINDS)
    assert share_below(hum, 600) > 0.9 > share_below(pink, 600)
    assert share_below(babble, 200) < 0.1
    assert unrest(babble) > 1.3 * unrest(pink)


def test_a_third_of_noisy_clips_has_echo_and_half_has_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms, below = [], []
    monkeypatch.setattr(narration, "room_response", lambda rng: rooms.append(1) or np.ones(1))
    for one in narrations(150, noisy=True, seconds=(1.0, 2.0)):
        noise = one.waveform.astype(np.float64) - one.speech
        below.append(one.level - 10 * np.log10(np.mean(np.square(noise))))
    assert 0.2 < len(rooms) / 150 < 0.47
    audible = np.array(below) < 55
    assert 0.38 < audible.mean() < 0.62
    assert np.min(below) > 29
    assert np.array(below)[~audible] == pytest.approx(60, abs=0.5)


def test_pauses_are_silent_some_are_long_and_loudness_drifts_by_a_few_decibels() -> None:
    pauses, spreads = [], []
    for one in narrations(60, noisy=False, seconds=(20.0, 21.0)):
        for sound in (sound for sound in one.phonemes[1:-1] if not sound.ipa):
            pauses.append(sound.end - sound.start)
            assert not one.speech[int(sound.start * 16_000) + 1 : int(sound.end * 16_000) - 1].any()
        levels = [20 * np.log10(sentence.std()) for sentence in said(one)[:-1]]
        spreads.append(np.std(levels))
        assert np.abs(np.array(levels) - one.level).max() < 11
    assert 1.5 < np.mean(spreads) < 4.5
    long = np.array(pauses) > 0.7
    assert 0.11 < long.mean() < 0.23
    assert 0.8 <= np.array(pauses)[long].min() <= np.max(pauses) <= 1.81


def test_speech_level_is_that_of_what_is_said() -> None:
    for one in narrations(20, noisy=False):
        level = 10 * np.log10(np.mean(np.square(np.concatenate(said(one)), dtype=np.float64)))
        assert one.speech_level == pytest.approx(level, abs=0.05)
        assert abs(one.speech_level - one.level) < 9


@pytest.mark.parametrize("noisy", [True, False])
def test_what_is_heard_is_in_sync_with_what_moves_the_lips_and_clean_but_for_a_floor(noisy: bool) -> None:
    for one in narrations(12, noisy):
        assert one.waveform.shape == one.speech.shape == (640 * one.frames,)
        assert one.waveform.dtype == one.speech.dtype == np.float32
        assert lag(one.waveform, one.speech) == 0
        if not noisy:
            assert 20 * np.log10((one.waveform - one.speech).std()) == pytest.approx(one.level - 60, abs=0.5)
