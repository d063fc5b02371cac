"""Lip sync in the self-test: a clip's frames with its speech, as it is or late."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.clips.phones import Phone
from experiments.video_judges import Judges
from experiments.video_measures import View
from metrics.av_correlation import LipRegressor, SpokenClip, fit_without, measure_sync
from metrics.lip_closure import lip_closure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """What the lips of a clip are held against.

    Attributes:
        waveform: ``(640 T,)`` float in [-1, 1].
        phones: Spoken in the clip; empty where unknown.
        regressor: Fitted on the speech of others; None without others.
        foreign: Speech of the others.
    """

    waveform: np.ndarray
    phones: Sequence[Phone]
    regressor: LipRegressor | None
    foreign: list[np.ndarray]


def learn_speech(spoken: Mapping[str, SpokenClip], name: str, phones: Sequence[Phone]) -> Speech:
    """The speech of the clip of that name and what the others say about it."""
    own, everyone = spoken[name], list(spoken.values())
    regressor = fit_without(everyone, own.identity, own.voice)
    return Speech(
        own.waveform, phones, regressor, [one.waveform for one in everyone if one.voice != own.voice]
    )


def shift_sound(waveform: np.ndarray, frames: int) -> np.ndarray:
    """Speech ``(640 T,)`` that comes so many frames late, silence before it."""
    silence = np.zeros(SAMPLES_PER_FRAME * frames, np.float32)
    return np.concatenate([silence, waveform])[: len(waveform)]


def measure_speech(view: View, real: View, speech: Speech, late: int, judges: Judges) -> dict[str, float]:
    """Lip sync of a clip's frames with its speech.

    Args:
        view: The frames, perhaps corrupted.
        real: The frames as they were.
        speech: Of the clip.
        late: Frames by which the speech comes late.
        judges: The judges at hand.
    """
    values = {}
    lips = view.curves.lip_opening
    waveform = shift_sound(speech.waveform, late)[: SAMPLES_PER_FRAME * len(view)]
    if speech.regressor is not None:
        values.update(measure_sync(lips, waveform, speech.regressor, speech.foreign, real.curves.lip_opening))
    if speech.phones:
        phones = [Phone(one.label, one.start + late / FPS, one.end + late / FPS) for one in speech.phones]
        values["lip_closure"] = lip_closure(lips, real.curves.lip_opening, phones)
    if judges.sync is not None:
        try:
            crops = judges.sync.crops(view.frames, view.points)
            values.update(judges.sync.measure(crops, [waveform])[0])
        except ValueError as error:
            log.info("lip sync: %s", error)
    return values
