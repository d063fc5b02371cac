"""Text to waveform with phoneme times, by a natural voice: hibari's network, which is made to tell its durations, too.

One American speaker; other pitches, tempos and throats of hers are other voices.
"""

import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from datamodules.batches import SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.synthetic_faces.speech.espeak import STRESS, Phoneme, Utterance
from datamodules.synthetic_faces.speech.voices import Voice

WORDS_A_MINUTE = 165
"""Rate at which the speaker speaks by herself."""
OCTAVE = 40.0
"""Steps of ``Voice.pitch`` to twice the frequency."""
LATE = 0.035
"""Seconds by which its durations say that sounds come too late: hisses, stops and vowels of 14 sentences go best with the
spectrum 45, 50 and 50 ms earlier; espeak-ng's, whose times are exact, 0, 30 and 20 ms."""
LEAST_PAUSE = 0.06
"""Seconds from which on a mark of punctuation is a pause; a shorter one belongs to the sound before it."""
SOUNDS = {
    "A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "Q": "əʊ", "ᵊ": "ə", "ʤ": "dʒ", "ʧ": "tʃ", "T": "ɾ",
}  # fmt: skip
"""IPA of the letters of its alphabet that stand for two sounds, or are no IPA."""
_VOICED = 40.0  # Hz below which a frame has no voice


class _Speaker(NamedTuple):
    """What the package offers, and its network with the ends of all sounds as a further output."""

    phonemes: Callable[[str], list[str]]
    numbers: dict[str, int]
    run: Callable[[np.ndarray, float], list[np.ndarray]]
    sound: Callable[..., np.ndarray]
    sample_rate: int


def speak_naturally(texts: list[str], voice: Voice) -> list[Utterance]:
    """Sentences spoken by the natural voice; the same texts and voice give the same samples.

    Raises:
        UserError: The extra ``voices`` is not installed, or holds another network than this was written for.
    """
    import soxr

    speaker, utterances = _speaker(), []
    for text in texts:
        noise = np.random.default_rng(zlib.crc32(text.encode()))
        waves, phonemes, end = [], [], 0.0
        for line in speaker.phonemes(text):
            letters = [letter for letter in line if letter in speaker.numbers]
            ids = np.array([[0, *(speaker.numbers[letter] for letter in letters), 0]], dtype=np.int64)
            *parts, pitch, ends = speaker.run(ids, voice.rate / WORDS_A_MINUTE / voice.tract)
            ends = ends.reshape(-1).astype(np.float64)
            waves.append(speaker.sound(*parts, _spoken_pitch(pitch, voice), noise))
            seconds = len(waves[-1]) / speaker.sample_rate / voice.tract
            edges = np.concatenate([[0.0], ends / ends[-1] * seconds - LATE / voice.tract])
            edges[-1] = seconds
            edges = end + np.maximum.accumulate(edges.clip(min=0.0))
            phonemes += _sounds(["", *letters, ""], edges)
            end += seconds
        wave = np.concatenate(waves) if waves else np.zeros(1, dtype=np.float32)
        # Played faster by the tract's scale, so that the formants shift: it spoke slower by as much.
        wave = soxr.resample(wave, speaker.sample_rate * voice.tract, SAMPLE_RATE, quality="HQ")
        utterances.append(Utterance(text, wave.astype(np.float32), _joined(phonemes, end)))
    return utterances


def _spoken_pitch(pitch: np.ndarray, voice: Voice) -> np.ndarray:
    """Frequency ``(F,)`` in Hz, before the tract's scale, as high and as lively as the voice's."""
    voiced = pitch > _VOICED
    if not voiced.any():
        return pitch
    middle = np.exp(np.log(pitch[voiced]).mean())
    scale = 2.0 ** ((voice.pitch - 50) / OCTAVE)
    lively = middle * (pitch.clip(min=1e-3) / middle) ** (voice.pitch_range / 50) * scale
    return np.where(voiced, lively.clip(min=_VOICED + 20), pitch).astype(np.float32)


def _sounds(letters: list[str], edges: np.ndarray) -> list[Phoneme]:
    """Sounds of the letters, which begin and end at ``edges`` ``(N + 1,)`` in seconds, and pauses.

    The time of a stress mark and of a break between words is that of the sound behind it.
    """
    found: list[Phoneme] = []
    stress, begun = 0, None
    for letter, (start, end) in zip(letters, pairwise(edges.tolist()), strict=True):
        begun = start if begun is None else begun
        if letter == " " or letter in STRESS:
            stress = STRESS.get(letter, 0)
            continue
        if letter == "ː":  # long for the vowel before it
            if found:
                found[-1] = replace(found[-1], end=end)
        elif letter.isalpha():
            found.append(Phoneme(SOUNDS.get(letter, letter), begun, end, stress))
        else:
            found.append(Phoneme("", begun, end))
        stress, begun = 0, None
    return found


def _joined(sounds: list[Phoneme], duration: float) -> list[Phoneme]:
    """The sounds without gaps from 0 to the end: marks that are no pauses are part of the sound before them."""
    joined: list[Phoneme] = []
    for one in sounds:
        last = joined[-1] if joined else None
        if last is not None and not one.ipa and (not last.ipa or one.end - one.start < LEAST_PAUSE):
            joined[-1] = replace(last, end=one.end)
        elif one.end > one.start:
            joined.append(one)
    if not joined:
        return [Phoneme("", 0.0, duration)]
    joined[-1] = replace(joined[-1], end=duration)
    return joined


def require_natural_voice() -> None:
    """UserError where the extra ``voices`` is not installed; loads nothing of it, as other processes are to speak."""
    if any(importlib.util.find_spec(name) is None for name in ("hibari", "onnx")):
        raise UserError("natural voices need hibari: install the extra with `pip install ifmdm[voices]`")


@cache
def _speaker() -> _Speaker:
    """The speaker of this process."""
    require_natural_voice()
    import onnx
    import onnxruntime
    from hibari import Hibari, dsp

    tts: Any = Hibari()
    model = onnx.load(tts.model_path)
    # Durations are summed up to the ends of the sounds before frames are made of them: the only such sum.
    sums = [node for node in model.graph.node if node.op_type == "CumSum"]
    if len(sums) != 1 or [one.name for one in model.graph.output][-1:] != ["f0"]:
        raise UserError("natural voices: this version of hibari-tts doesn't tell its durations; use 0.2.1")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(sums[0].output[0]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(ids: np.ndarray, speed: float) -> list[np.ndarray]:
        given = {"ids": ids, "speed": np.array([speed], dtype=np.float32)}
        *parts, ends = session.run(None, given)
        return [*(part[0] for part in parts), ends]

    return _Speaker(tts.phonemize, tts.vocab, run, dsp.synth, int(tts.sample_rate))
