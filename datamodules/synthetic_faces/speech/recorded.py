"""Sentences cut out of recordings of the user's: real voices for drawn heads.

When each sound is said tells an alignment beside the recording (see ``datamodules/clips/phones.py``), or PocketSphinx, which
needs no text and is right about every second time: lips of recognised phones go with the speech, not with every sound.
"""

import hashlib
import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.batches import SAMPLE_RATE
from datamodules.clips.phones import Phone, phone_file, read_phones
from datamodules.errors import UserError
from datamodules.media.suffixes import SOUND_SUFFIXES
from datamodules.synthetic_faces.speech.espeak import Phoneme, Utterance
from datamodules.synthetic_faces.speech.voices import Voice

LEAST_PAUSE = 0.2
"""Seconds of silence at which a recording is cut."""
LEAST_SPEECH = 0.5
"""Seconds of a sentence at least."""
CHUNK = 20.0
"""Seconds that are recognised at once, and a few less: cut where it is quietest in the last quarter."""
FRAME = 0.01
"""Seconds of a frame of the recogniser."""
ARPABET = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ", "b": "b", "ch": "tʃ",
    "d": "d", "dh": "ð", "dx": "ɾ", "eh": "ɛ", "er": "ɜ", "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h", "ih": "ɪ", "iy": "i",
    "jh": "dʒ", "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s",
    "sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip
SILENCES = {"", "sil", "sp", "spn", "<eps>", "pau", "noise", "h#", "silence"}


def recordings(folder: Path) -> list[Path]:
    """The sound files of a folder, by name; UserError where there are none."""
    found = sorted(
        path for path in Path(folder).glob("*") if path.suffix.lower() in SOUND_SUFFIXES and path.is_file()
    )
    if not found:
        raise UserError(f"{folder}: no recordings in it: give a folder of {', '.join(SOUND_SUFFIXES)} files")
    return found


def require_recordings(folder: Path) -> None:
    """UserError where there are no recordings, or nothing tells when their sounds are said."""
    lacking = [path for path in recordings(folder) if phone_file(path) is None]
    if lacking and importlib.util.find_spec("pocketsphinx") is None:
        raise UserError(
            f"{lacking[0]}: no phones beside it ({lacking[0].stem}.TextGrid or {lacking[0].stem}.phones.csv): align it, or "
            "install a recogniser by `pip install ifmdm[recorded]`"
        )


@cache
def recordings_digest(folder: Path) -> str:
    """Hash of the recordings of a folder and of their phones: what clips that are spoken by them depend on."""
    digest = hashlib.sha256()
    for path in recordings(folder):
        for file in (path, phone_file(path)):
            if file is not None:
                digest.update(file.name.encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def speak_recorded(rng: np.random.Generator, voice: Voice, seconds: float) -> list[Utterance]:
    """Neighbouring sentences of the voice's recording, ``seconds`` of them or a little more, from a drawn one on.

    They are played faster by ``voice.tract``, which makes another voice of it: pitch, formants and tempo go along.
    """
    import soxr

    pieces = _sentences(voice.recording)
    place, found, total = int(rng.integers(len(pieces))), [], 0.0
    while total < seconds:
        wave, sounds = pieces[place % len(pieces)]
        wave = soxr.resample(wave, SAMPLE_RATE * voice.tract, SAMPLE_RATE, quality="HQ").astype(np.float32)
        sounds = [replace(s, start=s.start / voice.tract, end=s.end / voice.tract) for s in sounds]
        sounds[-1] = replace(sounds[-1], end=len(wave) / SAMPLE_RATE)
        found.append(Utterance("", wave, sounds))
        total += len(wave) / SAMPLE_RATE
        place += 1
    return found


@cache
def _sentences(path: str) -> list[tuple[np.ndarray, list[Phoneme]]]:
    """Pieces of a recording between pauses, each with its sounds, gapless from 0 to its end.

    Raises:
        UserError: Nobody speaks in it, or its phones can't be read.
    """
    from datamodules.media.audio import load_audio

    wave = load_audio(path)
    beside = phone_file(Path(path))
    phones = read_phones(beside) if beside is not None else _recognised(wave)
    pieces: list[list[Phoneme]] = [[]]
    for phone in phones:
        label = ipa(phone.label)
        last = pieces[-1][-1].end if pieces[-1] else None
        silent = not label and phone.end - phone.start >= LEAST_PAUSE
        if silent or (last is not None and phone.start - last >= LEAST_PAUSE):
            pieces.append([])
        if label:
            pieces[-1].append(Phoneme(label, phone.start, phone.end))
    found = []
    for sounds in pieces:
        if not sounds or sounds[-1].end - sounds[0].start < LEAST_SPEECH:
            continue
        start = max(sounds[0].start, 0.0)
        cut = wave[round(start * SAMPLE_RATE) : round(sounds[-1].end * SAMPLE_RATE)]
        ends = [*(one.start - start for one in sounds[1:]), len(cut) / SAMPLE_RATE]
        if len(cut) >= LEAST_SPEECH * SAMPLE_RATE:
            begun = [0.0, *ends[:-1]]
            joined = [Phoneme(one.ipa, a, b) for one, a, b in zip(sounds, begun, ends, strict=True) if b > a]
            found.append((cut, joined))
    if not found:
        raise UserError(f"{path}: nobody speaks for {LEAST_SPEECH:g} s in it; leave it out of the folder")
    return found


def ipa(label: str) -> str:
    """IPA of a phone of an alignment in ARPABET or IPA; empty for silence and noise."""
    plain = label.strip().rstrip("012").lower()
    if plain in SILENCES or (plain.startswith(("+", "<", "[")) and plain.endswith(("+", ">", "]"))):
        return ""
    return ARPABET.get(plain, plain)


def _recognised(wave: np.ndarray) -> list[Phone]:
    """Phones of speech ``(S,)`` as PocketSphinx hears them."""
    decoder, phones, begun = _decoder(), [], 0
    while begun < len(wave):
        end = _quiet_end(wave, begun)
        decoder.start_utt()
        sound = (wave[begun:end].clip(-1, 1) * 32767).astype("<i2")
        decoder.process_raw(sound.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        offset = begun / SAMPLE_RATE
        for found in decoder.seg() or ():
            start, stop = found.start_frame * FRAME, (found.end_frame + 1) * FRAME
            phones.append(Phone(found.word, offset + start, min(offset + stop, end / SAMPLE_RATE)))
        begun = end
    return phones


def _quiet_end(wave: np.ndarray, begun: int) -> int:
    """Where a chunk that begins at a sample ends: at the quietest tenth of a second of its last quarter."""
    end = begun + round(CHUNK * SAMPLE_RATE)
    if end >= len(wave):
        return len(wave)
    first, hop = begun + round(0.75 * CHUNK * SAMPLE_RATE), SAMPLE_RATE // 10
    power = np.square(wave[first:end]).reshape(-1, hop).mean(axis=1)
    return first + int(power.argmin()) * hop + hop // 2


@cache
def _decoder() -> Any:
    """PocketSphinx with its own English model, which says phones without words."""
    import pocketsphinx

    model = Path(pocketsphinx.get_model_path()) / "en-us"
    return pocketsphinx.Decoder(
        hmm=str(model / "en-us"),
        allphone=str(model / "en-us-phone.lm.bin"),
        lw=2.0,
        beam=1e-20,
        pbeam=1e-20,
        loglevel="FATAL",
    )
