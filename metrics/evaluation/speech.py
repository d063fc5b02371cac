"""Lips and speech of all clips, once all are seen: regressions are fitted on other people, phones are those of others."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from datamodules.clips.phones import Phone
from metrics.av_correlation import LipRegressor, Listener, RegressionSettings, SpokenClip, fit_without
from metrics.evaluation.clip_results import SPEECH_ROWS, ClipResult, mean_over_takes, suffix
from metrics.evaluation.clips import CLIP_FAILURES, NO_PHONES, ClipFiles, ClipSet, Missing, entry
from metrics.evaluation.detections import Detections
from metrics.evaluation.inputs import SpeechInputs
from metrics.evaluation.judges import Judges
from metrics.evaluation.loading import load_clip
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.protocol_names import FREE
from metrics.evaluation.registry import of_kind, values_of
from metrics.lip_closure import is_bilabial

NOTHING_CLOSES = "its lips hardly move, or show no p, b or m in these frames"
UNSEEN = "the video or the real clip shows no face"
NOBODY_ELSE = "no clip of another face and voice to fit the regression on"

log = logging.getLogger(__name__)


class LipRegressors:
    """Regressions from speech to lips, each fitted once: on the clips, judged or not, of all faces and voices but one.

    ``clips`` are by name, in whose order they are fitted on and chosen from.
    """

    def __init__(
        self,
        clips: Mapping[str, SpokenClip],
        settings: RegressionSettings,
        listener: Listener | None = None,
        by_listener: "LipRegressors | None" = None,
    ) -> None:
        self.clips = [clip for _, clip in sorted(clips.items())]
        self.settings, self.listener = settings, listener
        self.by_listener = by_listener
        """Those by what the judge ``listener`` hears; None: there is none."""
        self._fitted: dict[tuple[str, str], LipRegressor | None] = {}

    @classmethod
    def of(cls, clips: Mapping[str, SpokenClip], protocol: Protocol, judges: Judges) -> "LipRegressors":
        """By log-mel, and by the listener that is there."""
        heard = None
        if judges.listener is not None:
            heard = cls(clips, protocol.regression_by_listener, judges.listener)
        return cls(clips, protocol.regression, by_listener=heard)

    def without(self, identity: str, voice: str) -> LipRegressor | None:
        """The regression fitted on all but these; None if nothing is left."""
        key = (identity, voice)
        if key not in self._fitted:
            self._fitted[key] = fit_without(self.clips, identity, voice, self.settings, self.listener)
        return self._fitted[key]

    def listening_without(self, identity: str, voice: str) -> LipRegressor | None:
        """The same by what the listener hears; None without one."""
        return None if self.by_listener is None else self.by_listener.without(identity, voice)

    def choice(self, voices: Collection[str], most: int) -> list[np.ndarray]:
        """Sound ``(640 T',)`` of other voices than these, for retrieval to choose among."""
        return [clip.waveform for clip in self.clips if clip.voice not in voices][:most]


def read_speech(clips: Sequence[ClipFiles], protocol: Protocol, judges: Judges) -> dict[str, SpokenClip]:
    """Lips and speech of real clips by name; what can't be read is left out, as it is judged by nothing."""
    found = {}
    for files in clips:
        try:
            clip = load_clip(files, protocol.reading)
            if clip.sound is None:
                continue
            motion, _ = judges.detector(clip.whole)
        except CLIP_FAILURES as error:
            log.info("%s: not used for fitting (%s)", files.name, error)
            continue
        lips = Detections(torch.empty(0), protocol, motion).motion.lip_opening
        found[files.name] = SpokenClip(files.identity, files.voice, clip.sound, lips)
    return found


def add_speech(
    results: Sequence[ClipResult], data: ClipSet, protocol: Protocol, judges: Judges
) -> list[Missing]:
    """Add to each clip what its rows' lips say beside sound and phones; returns where they say nothing, and why.

    What speech does to lips is learnt from spare clips and from those whose rows can't be judged, too.
    """
    if protocol.task == FREE:
        return _add_free_speech(results, data, protocol, judges)
    judged = {one.files.name: one.spoken for one in results}
    failed = [replace(clip, takes=()) for clip in data.judged if clip.name not in judged]
    others = read_speech([*failed, *data.spare], protocol, judges) if results else {}
    spoken = {name: clip for name, clip in judged.items() if clip is not None}
    regressors, missing = LipRegressors.of(spoken | others, protocol, judges), []
    for one in results:
        if one.spoken is not None and not add_correlations(one, regressors, protocol, judges):
            names = ", ".join(measure.name for measure in of_kind("speech", judges))
            missing.append(entry(one.files.name, names, NOBODY_ELSE))
    return missing + add_closures(results, data.all, protocol, judges)


def _add_free_speech(
    results: Sequence[ClipResult], data: ClipSet, protocol: Protocol, judges: Judges
) -> list[Missing]:
    """Lips without real ones: the regression is fitted on the spare clips alone, whose lips say what hardly moves."""
    speakers = read_speech(data.spare, protocol, judges) if results else {}
    regressors, missing = LipRegressors.of(speakers, protocol, judges), []
    for one in results if data.spare else ():
        if one.spoken is None:
            continue
        if speakers:
            usual = np.concatenate([clip.lip_opening for clip in speakers.values()])
            one.spoken = replace(one.spoken, lip_opening=usual)
        if not add_correlations(one, regressors, protocol, judges):
            names = ", ".join(measure.name for measure in of_kind("speech", judges, protocol.task))
            missing.append(entry(one.files.name, names, NOBODY_ELSE))
    return missing


def add_correlations(own: ClipResult, regressors: LipRegressors, protocol: Protocol, judges: Judges) -> bool:
    """Add ``av_*`` of each row of a clip that has sound; whether there was a regression to do so.

    ``shuffled`` is the method's lips against another voice's speech: the floor.
    """
    assert own.spoken is not None
    regressor = regressors.without(own.files.identity, own.files.voice)
    if regressor is None:
        return False
    by_listener = regressors.listening_without(own.files.identity, own.files.voice)
    own.fitted = len(regressor.lags)
    rows = [(row, own.lips.get(row, []), own.spoken.waveform) for row in SPEECH_ROWS]
    if own.foreign is not None:
        rows.append(("shuffled", own.lips.get("generated", []), own.foreign.waveform))
    for row, takes, sound in rows:
        voices = {own.files.voice}
        if own.foreign is not None and row in ("swapped", "shuffled"):
            voices.add(own.foreign.voice)  # lips made from it would find it, rightly
        choice = regressors.choice(voices, protocol.retrieval.foreign)
        real = own.spoken.lip_opening
        inputs = [SpeechInputs(protocol, lips, real, sound, regressor, by_listener, choice) for lips in takes]
        asked = of_kind("speech", judges, protocol.task)
        found = mean_over_takes([values_of(asked, one) for one in inputs])
        own.values |= {f"{name}{suffix(row)}": value for name, value in found.items()}
    return True


def closures(
    own: ClipResult, phones: Sequence[Phone], foreign: Sequence[Phone], protocol: Protocol, judges: Judges
) -> dict[str, float]:
    """``lip_closure`` of each row of a clip by its phones; empty: unknown, and no row is judged.

    ``shuffled``, the method's lips at the foreign phones, is a floor for those clips alone that have a value of their own.
    """
    rows = [*((row, row, phones) for row in own.lips), ("shuffled", "generated", foreign)]
    values: dict[str, float] = {}
    for row, source, spoken in rows:
        takes = own.lips.get(source, [])
        inputs = [SpeechInputs(protocol, lips, own.lips["real"][0], phones=spoken) for lips in takes]
        found = mean_over_takes([values_of(of_kind("phones", judges), one) for one in inputs])
        for name, value in found.items():
            if np.isfinite(value) and (row != "shuffled" or name in values):
                values[f"{name}{suffix(row)}"] = value
    return values


def add_closures(
    results: Sequence[ClipResult], clips: Sequence[ClipFiles], protocol: Protocol, judges: Judges
) -> list[Missing]:
    """Add lip closure to the values of every clip whose phones are known; returns where there is none and why.

    The floor is taken from the next one of all ``clips`` with another voice and known phones: which could be judged must
    not matter.
    """
    told = [clip.known_phones() for clip in clips]
    places = {clip.name: place for place, clip in enumerate(clips)}
    missing = []
    for own in results:
        place = places[own.files.name]
        phones, why = told[place]
        turn = [*range(place + 1, len(clips)), *range(place)]
        others = (told[other][0] for other in turn if clips[other].voice != own.files.voice)
        foreign: list[Phone] = next((known for known in others if known), [])
        own.values |= (found := closures(own, phones, foreign, protocol, judges))
        if phones and not any(is_bilabial(phone.label) for phone in phones):
            why = "no p, b or m is spoken"
        if "lip_closure" not in found:
            seen = all(np.isfinite(take).any() for row in ("real", "generated") for take in own.lips[row])
            missing.append(entry(own.files.name, "lip_closure", why or (NOTHING_CLOSES if seen else UNSEEN)))
    if results and all(told[places[own.files.name]][1] == NO_PHONES for own in results):
        return [entry("*", "lip_closure", NO_PHONES)]
    return missing
