"""Text to waveform with exact phoneme times, by espeak-ng in a fresh process."""

import json
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from datamodules.batches import SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.synthetic_faces.speech.voices import Voice

_PROCESS = Path(__file__).with_name("espeak_process.py")
STRESS = {"ˈ": 2, "ˌ": 1}
"""Marks in front of a stressed sound, and what they say."""
_LENGTH_MARKS = "ːˑ"


@dataclass(frozen=True)
class Phoneme:
    """One speech sound."""

    ipa: str  # IPA symbols without stress marks, such as ``aɪ``; empty for a pause
    start: float  # seconds from the start of the waveform
    end: float  # seconds, where the next sound starts
    stress: int = 0  # 0 none, 1 secondary, 2 primary


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence: its text, ``(S,)`` float32 in [-1, 1] at 16 kHz, and phonemes, gapless from 0 to its end."""

    text: str
    waveform: np.ndarray
    phonemes: list[Phoneme]


def synthesise_speech(texts: list[str], voice: Voice) -> list[Utterance]:
    """Sentences spoken one after the other in one process; the same texts and voice give the same bytes.

    Raises:
        UserError: The extra ``synthetic`` is not installed, or espeak-ng failed.
    """
    import soxr

    library, data = espeak_paths()
    request = {
        "library": library,
        "data": data,
        "voice": voice.espeak,
        "rate": round(voice.rate / voice.tract),
        "pitch": voice.pitch,
        "range": voice.pitch_range,
        "texts": texts,
    }
    # -I -S: no site packages, so that the process starts in some 20 ms.
    command = [sys.executable, "-I", "-S", str(_PROCESS)]
    result = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False)
    if result.returncode != 0:
        told = [f"status {result.returncode}", *result.stderr.decode(errors="replace").strip().splitlines()]
        raise UserError(f"speech synthesis with voice {voice.espeak} failed: {told[-1]}")
    header_line, _, samples = result.stdout.partition(b"\n")
    header = json.loads(header_line)
    pcm = np.frombuffer(samples, dtype="<i2").astype(np.float32) / 32768.0
    ends = np.cumsum([spoken["samples"] for spoken in header["spoken"]])
    utterances = []
    for text, spoken, wave in zip(texts, header["spoken"], np.split(pcm, ends)[:-1], strict=True):
        # Played faster by the tract's scale, so that the formants shift: espeak spoke slower by as much.
        sample_rate = header["sample_rate"] * voice.tract
        events = [[seconds / voice.tract, name] for seconds, name in spoken["events"]]
        phonemes = _phonemes(events, len(wave) / sample_rate)
        wave = soxr.resample(wave, sample_rate, SAMPLE_RATE, quality="HQ").astype(np.float32)
        utterances.append(Utterance(text, wave, phonemes))
    return utterances


def espeak_paths() -> tuple[str, str]:
    """Library and data folder of espeak-ng; without the extra ``synthetic`` a `UserError`."""
    try:
        import espeakng_loader
    except ImportError as error:
        told = "synthetic speech needs espeak-ng: install the extra with `pip install ifmdm[synthetic]`"
        raise UserError(told) from error
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


def _phonemes(events: list[list], duration: float) -> list[Phoneme]:
    """Phoneme intervals from espeak's onsets: language marks dropped, pauses merged, no gaps."""
    onsets: list[tuple[float, str, int]] = []
    for seconds, name in events:
        if name.startswith("("):  # a change of language, such as "(en)", is not a sound
            continue
        stress = max((STRESS.get(symbol, 0) for symbol in name), default=0)
        ipa = "".join(symbol for symbol in unicodedata.normalize("NFC", name) if symbol not in STRESS)
        if ipa.strip(_LENGTH_MARKS):
            onsets.append((min(seconds, duration), ipa, stress))
        elif onsets:
            onsets.append((min(seconds, duration), "", stress))
    if not onsets or onsets[0][0] > 0:
        onsets.insert(0, (0.0, "", 0))
    phonemes: list[Phoneme] = []
    for (start, ipa, stress), (end, *_) in pairwise([*onsets, (duration, "", 0)]):
        if end <= start:
            continue
        if phonemes and not ipa and not phonemes[-1].ipa:
            phonemes[-1] = Phoneme("", phonemes[-1].start, end)
        else:
            phonemes.append(Phoneme(ipa, start, end, stress))
    return phonemes
