"""The sound track of a clip: sentences with pauses, levels, the echo of a room and background noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from datamodules.batches import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from datamodules.synthetic_faces.speech.espeak import Phoneme, Utterance, synthesise_speech
from datamodules.synthetic_faces.speech.natural import speak_naturally
from datamodules.synthetic_faces.speech.recorded import speak_recorded
from datamodules.synthetic_faces.speech.room import NOISE_KINDS, background_noise, reverberate, room_response
from datamodules.synthetic_faces.speech.voices import Voice

LEVELS = (-30.0, -18.0)  # range of a clip's speech level in dB of full scale
SHORT_PAUSE = (0.15, 0.6)
LONG_PAUSE = (0.8, 1.8)  # ranges of the pause after a sentence in seconds
LONG_PAUSE_SHARE = 1 / 6
ROOM_SHARE = 1 / 3  # share of the noisy clips that are heard with the echo of a room
NOISE_SHARE = 1 / 2  # share of the noisy clips with background noise
NOISE_BELOW = (30.0, 50.0)  # range of its distance to the level of speech in dB
RATE_SPREAD = (0.88, 1.15)  # range of a clip's speaking rate over that of its voice
DRIFT = 1.6  # standard deviation in dB of the slow change of loudness in a clip; it stays within 2.5 of them
_DRIFT_SECONDS = 1.2  # width of its smoothing
_FLOOR_BELOW = 60.0  # dB: noise of a clip without noise
_DIGITAL_SHARE = 1 / 2  # share of the narrations with a silence that have no noise at all
_SHORTEST_SENTENCE = 1.2  # seconds, with its pause
_FADE = 0.02
_PEAK = 0.97
_SENTENCES = Path(__file__).with_name("sentences.txt")
_SPLIT_OF_TEN = ("train",) * 8 + ("val", "test")


@cache
def sentences(language: str, split: str) -> tuple[str, ...]:
    """The sentences of one language (ISO 639-1) and split (``train``, ``val`` or ``test``); no sentence is in two."""
    section = _SENTENCES.read_text(encoding="utf-8").split(f"[{language}]\n")[1].partition("\n[")[0]
    texts = [line for line in section.splitlines() if line]
    return tuple(text for place, text in enumerate(texts) if _SPLIT_OF_TEN[place % 10] == split)


@dataclass(frozen=True)
class Narration:
    """What is said in a clip."""

    voice: Voice  # who speaks, at the rate and pitch of this clip
    text: str  # all sentences
    speech: np.ndarray  # ``(640 T,)`` float32 without noise and echo; what moves the lips
    waveform: np.ndarray  # ``(640 T,)`` float32 in [-1, 1], speech, echo and noise in sync; what is heard
    phonemes: list[Phoneme]  # gapless over the clip
    level: float  # speech level drawn for the clip, in dB of full scale; its sentences lie about it

    @property
    def speech_level(self) -> float:
        """Level of ``speech`` where somebody speaks, in dB of full scale (RMS)."""
        moments = np.arange(len(self.speech)) / SAMPLE_RATE
        edges = np.array([[unit.start, unit.end] for unit in self.phonemes if unit.ipa]).reshape(-1, 2)
        begun, ended = (np.searchsorted(column, moments, "right") for column in edges.T)
        inside = begun > ended
        power = np.mean(np.square(self.speech[inside], dtype=np.float64)) if inside.any() else 0.0
        return float(10.0 * np.log10(power + 1e-12))

    @property
    def frames(self) -> int:
        """T, at 25 fps."""
        return len(self.waveform) // SAMPLES_PER_FRAME


def narrate(
    rng: np.random.Generator,
    voice: Voice,
    split: str,
    seconds: tuple[float, float],
    noisy: bool,
    silence: float = 0.0,
) -> Narration:
    """Draw sentences of a split and let a voice say them, whose rate and pitch vary a little from clip to clip.

    The clip takes ``seconds``, shortest and longest; a sentence that runs over the end is cut with a short fade. Where it
    is ``noisy``, some clips are heard in a room, and some with background noise. Before one of the sentences, or after the
    last, nobody speaks for ``silence`` seconds more.
    """
    target = rng.uniform(*seconds)
    texts = [] if voice.recording else _texts(rng, sentences(voice.language, split), seconds[1])
    level = float(rng.uniform(*LEVELS))
    if voice.recording:
        utterances = speak_recorded(rng, voice, seconds[1])
    else:
        voice = _delivery(rng, voice)
        utterances = (speak_naturally if voice.natural else synthesise_speech)(texts, voice)

    track = _Track()
    track.pause(rng.uniform(0.12, 0.45))
    longest, silent_from = seconds[1] + silence, rng.uniform(0.0, target) if silence else np.inf
    for utterance in utterances:
        if track.end >= silent_from:
            track.pause(silence)
            target, silent_from = target + silence, np.inf
        if track.end >= target:
            break
        track.say(utterance, level + float(np.clip(rng.normal(0.0, 2.5), -5, 5)))
        track.pause(rng.uniform(*(LONG_PAUSE if rng.random() < LONG_PAUSE_SHARE else SHORT_PAUSE)))

    if np.isfinite(silent_from):
        track.pause(silence)

    frames = max(int(min(track.end, longest) * FPS), 1)
    speech = np.concatenate(track.pieces)[: frames * SAMPLES_PER_FRAME]
    fade = int(_FADE * SAMPLE_RATE)
    speech[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    speech *= 10.0 ** (_drift(rng, len(speech)) / 20.0)
    speech *= min(1.0, _PEAK / max(float(np.abs(speech).max()), 1e-6))
    phonemes = [replace(p, end=min(p.end, frames / FPS)) for p in track.phonemes if p.start < frames / FPS]
    heard = _heard(rng, speech, level, noisy, floor=not (silence and rng.random() < _DIGITAL_SHARE))
    return Narration(voice, " ".join(track.said).strip(), speech, heard, phonemes, level)


def _texts(rng: np.random.Generator, stock: Sequence[str], seconds: float) -> list[str]:
    """Sentences that are enough for so long."""
    wanted = int(np.ceil(seconds / _SHORTEST_SENTENCE)) + 1
    return [stock[place] for place in _order(rng, len(stock), wanted)]


def _order(rng: np.random.Generator, stock: int, wanted: int) -> list[int]:
    """Numbers of the sentences to say: all before any comes again, and none twice in a row."""
    order: list[int] = []
    while len(order) < wanted:
        turn = rng.permutation(stock).tolist()
        if order and turn[0] == order[-1]:
            turn.reverse()
        order += turn
    return order[:wanted]


def _delivery(rng: np.random.Generator, voice: Voice) -> Voice:
    """The voice at the speaking rate and pitch of one clip."""
    return replace(
        voice,
        rate=round(voice.rate * rng.uniform(*RATE_SPREAD)),
        pitch=int(np.clip(voice.pitch + rng.integers(-4, 5), 0, 100)),
        pitch_range=int(np.clip(voice.pitch_range + rng.integers(-8, 9), 0, 100)),
    )


class _Track:
    """Sentences and pauses one after another; ``end`` is where it ends so far in seconds."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []
        self.phonemes: list[Phoneme] = []
        self.said: list[str] = []
        self.end = 0.0

    def pause(self, seconds: float) -> None:
        """Add silence."""
        samples = round(seconds * SAMPLE_RATE)
        self.pieces.append(np.zeros(samples, dtype=np.float32))
        start, self.end = self.end, self.end + samples / SAMPLE_RATE
        self.phonemes.append(Phoneme("", start, self.end))

    def say(self, utterance: Utterance, level: float) -> None:
        """Add a sentence at a level in dB of full scale."""
        wave = utterance.waveform
        rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) + 1e-6
        self.pieces.append((wave * (10.0 ** (level / 20.0) / rms)).astype(np.float32))
        for sound in utterance.phonemes:
            self.phonemes.append(replace(sound, start=sound.start + self.end, end=sound.end + self.end))
        self.said.append(utterance.text)
        self.end += len(wave) / SAMPLE_RATE


def _drift(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Slow change of the loudness in dB, ``(S,)`` float32."""
    knots = np.arange(0, samples + SAMPLES_PER_FRAME, SAMPLES_PER_FRAME)
    spread = _DRIFT_SECONDS * FPS
    edge = int(4 * spread)
    drift = gaussian_filter1d(rng.standard_normal(len(knots) + 2 * edge), spread)[edge:-edge]
    # The sum of squares of the smoothing's weights gives the spread that is to be expected.
    drift *= DRIFT * np.sqrt(2.0 * np.sqrt(np.pi) * spread)
    drift = np.clip(drift - drift.mean(), -2.5 * DRIFT, 2.5 * DRIFT)
    return np.interp(np.arange(samples), knots, drift).astype(np.float32)


def _heard(
    rng: np.random.Generator, speech: np.ndarray, level: float, noisy: bool, floor: bool = True
) -> np.ndarray:
    """Speech with echo and noise as drawn for the clip, ``(S,)`` float32 in [-1, 1]; a floor far below hearing, if wanted."""
    kind, below = "pink", _FLOOR_BELOW if floor else np.inf
    result = speech
    if noisy:
        if rng.random() < ROOM_SHARE:
            result = reverberate(speech, room_response(rng))
        if rng.random() < NOISE_SHARE:
            kind, below = str(rng.choice(NOISE_KINDS)), rng.uniform(*NOISE_BELOW)
    noise = background_noise(rng, kind, len(speech)) * 10.0 ** ((level - below) / 20.0)
    return np.clip(result + noise, -1.0, 1.0).astype(np.float32)
