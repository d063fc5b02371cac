"""The synthetic speakers: language, espeak-ng variant, speaking rate and pitch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.clips.manifest import SPLITS

TRACTS = (0.9, 1.12)  # range of the vocal tracts' scale
# Of the natural speaker, who is a woman: as a man she has a longer throat and half an octave less.
MASCULINE_TRACTS = (0.8, 0.9)
NATURAL_PITCHES, MASCULINE_PITCHES = (42, 58), (22, 36)
RECORDED_TRACTS = (0.92, 1.1)
NATURAL_RATES, NATURAL_RANGES = (145, 186), (40, 66)


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker."""

    name: str  # unique name, as written into the manifest
    language: str  # language of its sentences, ISO 639-1
    espeak: str  # espeak-ng voice with variant, such as ``en-us+f3``; ``en`` is British
    rate: int  # words per minute
    pitch: int  # base pitch, 0..100
    pitch_range: int  # liveliness of the intonation, 0..100
    split: str  # the only split whose clips this voice speaks in
    # frequency of all formants (and of the pitch) relative to the variant's: > 1 is a shorter throat
    tract: float = 1.0
    natural: bool = False  # not espeak-ng's, see `natural.py`
    recording: str = ""  # sound file that its sentences are cut out of, see `recorded.py`

    @property
    def variant(self) -> str:
        """The espeak-ng variant: whose throat it is, in whatever language."""
        return self.espeak.partition("+")[2]

    @property
    def feminine(self) -> bool:
        """Whether it sounds like a woman's voice."""
        return self.variant in _FEMININE or self.variant[:1] == "f"


# espeak-ng voice, rate, pitch, pitch range. The variants differ in formants and breathiness; rate and pitch
# are spread so that neither tells the split. No variant is in two splits. Those of val and test lie within the range of
# train: by mean and spread of the log-mel spectrum each is nearer to one of train than the outermost 5 % of train are to
# any other. The far ones (Alicia, anika, ian, edward, zac, adam, michel, steph) are in train.
_TRAIN = (
    ("en-us+f1", 165, 52, 55), ("en-us+f2", 150, 60, 45), ("en-us+f3", 175, 48, 60), ("en-us+m1", 160, 45, 50),
    ("en-us+m3", 145, 38, 40), ("en-us+m7", 170, 50, 65), ("en-us+Alicia", 155, 55, 50), ("en-us+john", 180, 42, 45),
    ("en-us+ian", 140, 46, 60), ("en+f2", 170, 46, 50), ("en+m2", 150, 40, 55), ("en+m4", 168, 52, 40),
    ("en+Andy", 162, 48, 50), ("en-gb-x-rp+f4", 152, 54, 45), ("en-gb-x-rp+m5", 172, 44, 60),
    ("en-gb-scotland+f3", 160, 50, 65), ("en-gb-scotland+m5", 148, 42, 50), ("en-gb-x-gbclan+m1", 166, 47, 55),
    ("en-gb-x-gbclan+f1", 156, 57, 50), ("en-gb-x-gbcwmd+m7", 154, 39, 45), ("en-029+m3", 150, 46, 60),
    ("en-029+f2", 164, 53, 55), ("en-us+Gene", 158, 43, 50), ("en-us+aunty", 146, 49, 45), ("de+f2", 152, 50, 50),
    ("de+m3", 160, 44, 55), ("de+m7", 145, 40, 45), ("fr+f4", 158, 55, 55), ("fr+m1", 150, 45, 50), ("es+f1", 160, 52, 60),
    ("es+m4", 150, 42, 50), ("it+f3", 156, 54, 55), ("it+m5", 164, 46, 50), ("nl+f2", 154, 51, 45), ("nl+m2", 148, 41, 55),
    ("en-us+adam", 162, 40, 50), ("en-us+max", 148, 46, 55), ("en-us+victor", 156, 38, 60), ("en-us+steph", 170, 57, 50),
    ("en-us+Andrea", 144, 53, 55), ("en-us+Michael", 158, 44, 45), ("en-us+norbert", 166, 41, 55),
    ("en-us+quincy", 152, 49, 60), ("en-us-nyc+f3", 172, 54, 50), ("en-us-nyc+m2", 154, 43, 55), ("en+zac", 160, 47, 50),
    ("en+anika", 146, 56, 60), ("en+rob", 164, 42, 45), ("en+f1", 156, 51, 55), ("en-gb-scotland+Mike", 150, 45, 50),
    ("en-029+f4", 168, 58, 45), ("de+Andrea", 148, 54, 55), ("de+max", 164, 43, 50), ("de+f4", 156, 56, 45),
    ("fr+michel", 162, 42, 50), ("fr+f3", 148, 51, 60), ("fr+m4", 166, 47, 45), ("es+pedro", 164, 40, 55),
    ("es+edward", 150, 45, 55), ("es+anika", 158, 55, 60), ("es+f4", 152, 57, 50), ("es+m7", 158, 45, 60),
    ("it+sandro", 150, 41, 60), ("it+f1", 162, 53, 50), ("it+m3", 146, 44, 55), ("nl+f4", 160, 55, 55),
    ("nl+m5", 166, 43, 50), ("nl+f1", 144, 50, 60), ("en-us+Alex", 156, 50, 50), ("en-us+robert", 150, 44, 50),
    ("en-us+pablo", 168, 47, 55), ("en-us+klatt", 160, 45, 50), ("en-us+benjamin", 152, 43, 55),
    ("en-us+mike2", 164, 41, 50), ("en-us+grandma", 146, 50, 50), ("en-us+Mario", 158, 48, 60),
    ("en-us+Denis", 154, 42, 55), ("en-us+ed", 166, 46, 45), ("en-us+steph2", 156, 55, 60), ("en+Gene2", 150, 49, 50),
    ("en+Reed", 160, 44, 55), ("en+grandpa", 148, 40, 50), ("en+iven", 162, 45, 60), ("en+klatt3", 154, 47, 50),
    ("en+Lee", 158, 50, 55), ("en+grandma", 158, 52, 60), ("en-029+Nguyen", 156, 52, 50), ("de+klatt2", 150, 44, 55),
    ("de+boris", 158, 46, 50), ("de+mike2", 154, 42, 55), ("de+grandma", 162, 52, 50), ("fr+gustave", 156, 43, 55),
    ("fr+Jacky", 162, 48, 50), ("fr+Alicia", 154, 54, 55), ("es+miguel", 154, 42, 50), ("es+antonio", 162, 44, 55),
    ("es+aunty", 156, 50, 60), ("it+Marco", 158, 47, 55), ("it+marcelo", 152, 42, 50), ("it+Andrea", 160, 54, 55),
    ("nl+Diogo", 156, 43, 50), ("nl+edward2", 150, 45, 60), ("nl+f3", 158, 53, 55),
)  # fmt: skip
_VAL = (
    ("en-us+Annie", 160, 54, 50), ("en-us+paul", 156, 42, 55), ("en+m6", 152, 44, 50), ("en+shelby", 154, 52, 55),
    ("de+david", 155, 45, 50), ("es+paul", 158, 45, 55), ("es+Annie", 150, 55, 60),
)  # fmt: skip
_TEST = (
    ("en-us+belinda", 150, 56, 50), ("en-us+Hugo", 162, 45, 50), ("en+f5", 164, 52, 55), ("en+m8", 152, 40, 60),
    ("en-us+linda", 148, 50, 55), ("fr+f5", 156, 54, 55), ("de+m8", 150, 45, 50),
)  # fmt: skip
_FEMININE = {
    "Alicia", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "linda", "shelby", "steph", "steph2",
}  # fmt: skip


def _voice(split: str, espeak: str, rate: int, pitch: int, pitch_range: int) -> Voice:
    language = espeak.partition("+")[0].partition("-")[0]
    return Voice(espeak.replace("+", "_"), language, espeak, rate, pitch, pitch_range, split)


VOICES: tuple[Voice, ...] = tuple(
    _voice(split, *row) for split, rows in zip(SPLITS, (_TRAIN, _VAL, _TEST), strict=True) for row in rows
)


def voices_of(split: str, feminine: bool | None = None) -> list[Voice]:
    """The voices that speak in one split, all or those that fit; no espeak-ng variant speaks in two splits."""
    return [voice for voice in VOICES if voice.split == split and feminine in (None, voice.feminine)]


def own_voice(rng: np.random.Generator, split: str, feminine: bool) -> Voice:
    """The voice of one person: a variant that fits, and a vocal tract of its own length."""
    fitting = voices_of(split, feminine)
    voice = fitting[int(rng.integers(len(fitting)))]
    tract = round(float(rng.uniform(*TRACTS)), 3)
    return replace(voice, name=f"{voice.name}_{round(1000 * tract)}", tract=tract)


def natural_voice(rng: np.random.Generator, feminine: bool) -> Voice:
    """The natural speaker, in train alone, as a person of that sex: with a throat, pitch and liveliness of its own."""
    tract = round(float(rng.uniform(*(TRACTS if feminine else MASCULINE_TRACTS))), 3)
    pitch = int(rng.integers(*(NATURAL_PITCHES if feminine else MASCULINE_PITCHES)))
    rate, liveliness = (int(rng.integers(*reach)) for reach in (NATURAL_RATES, NATURAL_RANGES))
    name = f"hibari_{round(1000 * tract)}_{pitch}"
    return Voice(name, "en", "", rate, pitch, liveliness, "train", tract, natural=True)


def recorded_voice(rng: np.random.Generator, recordings: Sequence[Path]) -> Voice:
    """The voice of one of some recordings, in train alone, with a throat that is a little longer or shorter."""
    chosen = recordings[int(rng.integers(len(recordings)))]
    tract = round(float(rng.uniform(*RECORDED_TRACTS)), 3)
    name = f"recorded_{chosen.stem}_{round(1000 * tract)}"
    return Voice(name, "", "", 0, 50, 50, "train", tract, recording=str(chosen))
