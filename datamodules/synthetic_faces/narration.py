"""The sound track of a clip: sentences with pauses, levels and background noise."""

from dataclasses import dataclass

import numpy as np

from datamodules.batches import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from datamodules.synthetic_faces.sentences import sentences
from datamodules.synthetic_faces.speech import Phoneme, Utterance, speak
from datamodules.synthetic_faces.voices import Voice

LEVELS = (-30.0, -18.0)
"""Range of a clip's speech level in dB of full scale."""
_FADE = 0.02
_PEAK = 0.97


@dataclass(frozen=True)
class Narration:
    """What is said in a clip.

    Attributes:
        voice: who speaks.
        text: all sentences.
        speech: ``(640 T,)`` float32 without noise; what moves the lips.
        waveform: ``(640 T,)`` float32 in [-1, 1], speech and noise; what is heard.
        phonemes: gapless over the clip.
        level: speech level in dB of full scale.
    """

    voice: Voice
    text: str
    speech: np.ndarray
    waveform: np.ndarray
    phonemes: list[Phoneme]
    level: float

    @property
    def frames(self) -> int:
        """T, at 25 fps."""
        return len(self.waveform) // SAMPLES_PER_FRAME


def narrate(
    rng: np.random.Generator, voice: Voice, split: str, seconds: tuple[float, float], noisy: bool
) -> Narration:
    """Draws sentences of a split and lets a voice say them.

    Args:
        rng: source of all random choices.
        voice: who speaks.
        split: whose sentences are said.
        seconds: shortest and longest clip; a sentence that runs over the end is cut with a short fade.
        noisy: add background noise, at 25 to 45 dB below the speech, to half of the clips.
    """
    target = rng.uniform(*seconds)
    stock = sentences(voice.language, split)
    wanted = int(np.ceil(seconds[1] / 1.2)) + 1
    texts = [stock[place] for place in _order(rng, len(stock), wanted)]
    level = float(rng.uniform(*LEVELS))

    pieces: list[np.ndarray] = []
    phonemes: list[Phoneme] = []
    said: list[str] = []
    time = _append_pause(rng.uniform(0.12, 0.45), 0.0, pieces, phonemes)
    for utterance in speak(texts, voice):
        if time >= target:
            break
        time = _append_utterance(
            utterance, level + float(np.clip(rng.normal(0.0, 2.5), -5, 5)), time, pieces, phonemes
        )
        time = _append_pause(rng.uniform(0.15, 0.6), time, pieces, phonemes)
        said.append(utterance.text)

    frames = max(int(min(time, seconds[1]) * FPS), 1)
    speech = _cut(np.concatenate(pieces), frames * SAMPLES_PER_FRAME)
    speech *= min(1.0, _PEAK / max(float(np.abs(speech).max()), 1e-6))
    waveform = speech + _noise(rng, len(speech), level, noisy)
    return Narration(
        voice=voice,
        text=" ".join(said),
        speech=speech,
        waveform=np.clip(waveform, -1.0, 1.0).astype(np.float32),
        phonemes=_cut_phonemes(phonemes, frames / FPS),
        level=level,
    )


def _order(rng: np.random.Generator, stock: int, wanted: int) -> list[int]:
    order: list[int] = []
    while len(order) < wanted:
        order += rng.permutation(stock).tolist()
    return order[:wanted]


def _append_pause(seconds: float, time: float, pieces: list[np.ndarray], phonemes: list[Phoneme]) -> float:
    samples = round(seconds * SAMPLE_RATE)
    pieces.append(np.zeros(samples, dtype=np.float32))
    end = time + samples / SAMPLE_RATE
    phonemes.append(Phoneme("", time, end))
    return end


def _append_utterance(
    utterance: Utterance, level: float, time: float, pieces: list[np.ndarray], phonemes: list[Phoneme]
) -> float:
    """Adds a sentence at a level in dB of full scale."""
    wave = utterance.waveform
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) + 1e-6
    pieces.append((wave * (10.0 ** (level / 20.0) / rms)).astype(np.float32))
    phonemes += [
        Phoneme(sound.ipa, sound.start + time, sound.end + time, sound.stress) for sound in utterance.phonemes
    ]
    return time + len(wave) / SAMPLE_RATE


def _cut(waveform: np.ndarray, samples: int) -> np.ndarray:
    waveform = waveform[:samples].copy()
    fade = min(int(_FADE * SAMPLE_RATE), samples)
    waveform[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return waveform


def _cut_phonemes(phonemes: list[Phoneme], end: float) -> list[Phoneme]:
    return [
        Phoneme(sound.ipa, sound.start, min(sound.end, end), sound.stress)
        for sound in phonemes
        if sound.start < end
    ]


def _noise(rng: np.random.Generator, samples: int, level: float, noisy: bool) -> np.ndarray:
    """Noise whose power falls with the frequency; without ``noisy`` only a floor far below hearing."""
    below = rng.uniform(25.0, 45.0) if noisy and rng.random() < 0.5 else 60.0
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE), 60.0))
    noise = np.fft.irfft(spectrum, samples)
    return (noise / (noise.std() + 1e-12) * 10.0 ** ((level - below) / 20.0)).astype(np.float32)
