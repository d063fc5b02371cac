"""Lips and speech of all clips, once all are seen: regressions are fitted on other people, phones are those of others."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from datamodules.clips.phones import Phone
from metrics.av_correlation import LipRegressor, RegressionSettings, SpokenClip, fit_without
from metrics.evaluation.clips import CLIP_FAILURES, NO_PHONES, ClipFiles, ForeignSpeech, Missing, entry
from metrics.evaluation.contexts import SpeechContext
from metrics.evaluation.judges import Judges
from metrics.evaluation.loading import load_clip
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import is_lag, of_kind, values_of
from metrics.evaluation.views import View
from metrics.lip_closure import is_bilabial

SPEECH_ROWS = ("real", "codec", "autoencoder", "generated", "swapped")
"""Rows whose lips are held against speech: a still picture has none."""
NOTHING_CLOSES = "its lips hardly move, or show no p, b or m in these frames"
UNSEEN = "the video or the real clip shows no face"

log = logging.getLogger(__name__)


@dataclass
class ClipSpeech:
    """The speech of one clip, and the lips of its rows.

    What the regressions of other clips take from it is its real lips and sound at their own length T', so that a method's
    video that is shorter by a frame does not move the values of the others.
    """

    files: ClipFiles  # of the clip
    sound: np.ndarray | None  # (640 T',), or None without sound
    real: np.ndarray  # (T',) lip opening of the real clip
    lips: dict[str, list[np.ndarray]] = field(
        default_factory=dict
    )  # row -> lip opening (T,) of each take, T <= T'
    # speech of another voice, which the takes are held against and the row swapped was made from, if any
    foreign: ForeignSpeech | None = None
    # measures by name; bare for the method, NAME_ROW for other rows
    values: dict[str, float] = field(default_factory=dict)


def mean_over_takes(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each measure of one clip from those of its takes: their mean, of a lag the median."""
    names = found[0] if found else ()
    return {
        name: float((np.median if is_lag(name) else np.mean)([one[name] for one in found])) for name in names
    }


def suffix(row: str) -> str:
    """What is put behind the name of a measure of a row."""
    return "" if row == "generated" else f"_{row}"


class LipRegressors:
    """Regressions from speech to lips, each fitted once: on the clips, judged or not, of all faces and voices but one."""

    def __init__(self, clips: Sequence[ClipSpeech], settings: RegressionSettings) -> None:
        self.settings = settings
        self.clips = [
            SpokenClip(clip.files.identity, clip.files.voice, clip.sound, clip.real)
            for clip in sorted(clips, key=lambda clip: clip.files.name)
            if clip.sound is not None
        ]
        self._fitted: dict[tuple[str, str], LipRegressor | None] = {}

    def without(self, identity: str, voice: str) -> LipRegressor | None:
        """The regression fitted on all but these; None if nothing is left."""
        key = (identity, voice)
        if key not in self._fitted:
            self._fitted[key] = fit_without(self.clips, identity, voice, self.settings)
        return self._fitted[key]

    def choice(self, voices: Collection[str], most: int) -> list[np.ndarray]:
        """Sound ``(640 T',)`` of other voices than these, for retrieval to choose among."""
        return [clip.waveform for clip in self.clips if clip.voice not in voices][:most]


def read_speech(clips: Sequence[ClipFiles], protocol: Protocol, judges: Judges) -> list[ClipSpeech]:
    """Lips and speech of real clips; what can't be read is left out, as it is judged by nothing."""
    found: list[ClipSpeech] = []
    for files in clips:
        try:
            clip = load_clip(files, protocol.reading)
            if clip.sound is None:
                continue
            curves, _ = judges.watch(clip.whole)
        except CLIP_FAILURES as error:
            log.info("%s: not used for fitting (%s)", files.name, error)
            continue
        lips = View(torch.empty(0), protocol, curves).curves.lip_opening
        found.append(ClipSpeech(files, clip.sound, lips))
    return found


def regression_scores(
    own: ClipSpeech, regressors: LipRegressors, protocol: Protocol, judges: Judges
) -> tuple[dict[str, float], int, str]:
    """``av_*`` of a clip for each row, by a regression fitted on so many others; or why there is none.

    ``shuffled`` is the method's lips against another voice's speech: the floor.
    """
    files = own.files
    if own.sound is None:
        return {}, 0, "no sound"
    regressor = regressors.without(files.identity, files.voice)
    if regressor is None:
        return {}, 0, "no clip of another face and voice to fit the regression on"
    rows = [(row, own.lips.get(row, []), own.sound) for row in SPEECH_ROWS]
    if own.foreign is not None:
        rows.append(("shuffled", own.lips.get("generated", []), own.foreign.waveform))
    values: dict[str, float] = {}
    for row, takes, sound in rows:
        voices = {files.voice}
        if own.foreign is not None and row in ("swapped", "shuffled"):
            voices.add(own.foreign.voice)  # lips made from it would find it, rightly
        choice = regressors.choice(voices, protocol.retrieval.foreign)
        contexts = [SpeechContext(protocol, lips, own.real, sound, regressor, choice) for lips in takes]
        found = mean_over_takes([values_of(of_kind("lips", judges), one) for one in contexts])
        values |= {f"{name}{suffix(row)}": value for name, value in found.items()}
    return values, len(regressor.lags), ""


def closure_scores(
    own: ClipSpeech, phones: Sequence[Phone], foreign: Sequence[Phone], protocol: Protocol, judges: Judges
) -> dict[str, float]:
    """``lip_closure`` of each row of a clip by its phones; empty: unknown, and no row is judged.

    ``shuffled``, the method's lips at the foreign phones, is a floor for those clips alone that have a value of their own.
    """
    rows = [*((row, row, phones) for row in own.lips), ("shuffled", "generated", foreign)]
    values: dict[str, float] = {}
    for row, source, spoken in rows:
        takes = own.lips.get(source, [])
        contexts = [SpeechContext(protocol, lips, own.lips["real"][0], phones=spoken) for lips in takes]
        found = mean_over_takes([values_of(of_kind("phones", judges), one) for one in contexts])
        for name, value in found.items():
            if np.isfinite(value) and (row != "shuffled" or name in values):
                values[f"{name}{suffix(row)}"] = value
    return values


def add_closures(
    judged: Sequence[ClipSpeech], clips: Sequence[ClipFiles], protocol: Protocol, judges: Judges
) -> list[Missing]:
    """Add lip closure to the values of every judged clip whose phones are known; returns where there is none and why.

    The floor is taken from the next one of all ``clips`` with another voice and known phones: which could be judged must
    not matter.
    """
    told = [clip.known_phones() for clip in clips]
    places = {clip.name: place for place, clip in enumerate(clips)}
    missing = []
    for own in judged:
        place = places[own.files.name]
        phones, why = told[place]
        turn = [*range(place + 1, len(clips)), *range(place)]
        others = (told[other][0] for other in turn if clips[other].voice != own.files.voice)
        foreign: list[Phone] = next((known for known in others if known), [])
        own.values |= (found := closure_scores(own, phones, foreign, protocol, judges))
        if phones and not any(is_bilabial(phone.label) for phone in phones):
            why = "no p, b or m is spoken"
        if "lip_closure" not in found:
            seen = all(np.isfinite(take).any() for row in ("real", "generated") for take in own.lips[row])
            missing.append(entry(own.files.name, "lip_closure", why or (NOTHING_CLOSES if seen else UNSEEN)))
    if judged and all(told[places[own.files.name]][1] == NO_PHONES for own in judged):
        return [entry("*", "lip_closure", NO_PHONES)]
    return missing
