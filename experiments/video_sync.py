"""Lip sync of all clips of an evaluation, once all of them are seen: its judges are fitted on other people's clips."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from experiments.video_pairs import Foreign
from metrics.av_correlation import LipRegressor, SpokenClip, fit_without, measure_sync
from metrics.protocol import is_lag

SYNC_ROWS = ("real", "codec", "autoencoder", "generated", "swapped")
REGRESSION_SCORES = "av_corr, av_corr_zero, av_lag, av_retrieval"
NETWORK_SCORES = "lse_d, lse_c, av_offset"
MOST_FOREIGN = 20
"""Clips at most whose speech retrieval chooses among: more cost time and change little. The protocol's ``choice``."""


@dataclass
class Heard:
    """What lip sync is judged by: one clip's speech, and the lips of its rows.

    What other clips learn from it is its real lips and sound at their own length T', so that a method's video that is
    shorter by a frame does not move the values of the others.

    Attributes:
        name: Of the clip.
        identity: Who is seen.
        voice: Who is heard.
        sound: ``(640 T',)``, or None without sound.
        real: ``(T',)`` lip opening of the real clip.
        lips: Row -> lip opening ``(T,)`` of each take, T <= T'.
        foreign: Speech of another voice, which the takes are held against and the row ``swapped`` was made from, if any.
    """

    name: str
    identity: str
    voice: str
    sound: np.ndarray | None
    real: np.ndarray
    lips: dict[str, list[np.ndarray]] = field(default_factory=dict)
    foreign: Foreign | None = None


class Lessons:
    """Regressions from speech to lips, each fitted once: on the clips of all faces and voices but one.

    Args:
        clips: Judged or not; those without sound teach nothing.
    """

    def __init__(self, clips: Sequence[Heard]) -> None:
        self.clips = [
            SpokenClip(clip.identity, clip.voice, clip.sound, clip.real)
            for clip in sorted(clips, key=lambda clip: clip.name)
            if clip.sound is not None
        ]
        self._fitted: dict[tuple[str, str], LipRegressor | None] = {}

    def without(self, identity: str, voice: str) -> LipRegressor | None:
        """The regression fitted on all but these; None if nothing is left."""
        key = (identity, voice)
        if key not in self._fitted:
            self._fitted[key] = fit_without(self.clips, identity, voice)
        return self._fitted[key]

    def choice(self, voices: Collection[str]) -> list[np.ndarray]:
        """Sound ``(640 T',)`` of other voices than these, for retrieval to choose among."""
        return [clip.waveform for clip in self.clips if clip.voice not in voices][:MOST_FOREIGN]


def correlations(own: Heard, lessons: Lessons) -> tuple[dict[str, float], int, str]:
    """``av_*`` of a clip for each row, by a regression fitted on so many others; or why there is none.

    ``shuffled`` is the method's lips against another voice's speech: the floor.
    """
    if own.sound is None:
        return {}, 0, "no sound"
    regressor = lessons.without(own.identity, own.voice)
    if regressor is None:
        return {}, 0, "no clip of another face and voice to fit the regression on"
    rows = [(row, own.lips.get(row, []), own.sound) for row in SYNC_ROWS]
    if own.foreign is not None:
        rows.append(("shuffled", own.lips.get("generated", []), own.foreign.waveform))
    values: dict[str, float] = {}
    for row, takes, speech in rows:
        voices = {own.voice}
        if own.foreign is not None and row in ("swapped", "shuffled"):
            voices.add(own.foreign.voice)  # lips made from it would find it, rightly
        choice = lessons.choice(voices)
        found = [measure_sync(lips, speech, regressor, choice, own.real) for lips in takes]
        suffix = "" if row == "generated" else f"_{row}"
        for name in found[0] if found else ():
            values[f"{name}{suffix}"] = over_takes(name, [one[name] for one in found])
    return values, len(regressor.lags), ""


def over_takes(name: str, values: Sequence[float]) -> float:
    """A measure of one clip from those of its takes: their mean, of a lag the median."""
    return float(np.median(values) if is_lag(name) else np.mean(values))


def network_scores(
    judge: Any,
    rows: dict[str, list[tuple[Tensor, np.ndarray | None]]],
    waveform: np.ndarray,
    foreign: np.ndarray | None,
) -> tuple[dict[str, float], dict[str, str]]:
    """``lse_d``, ``lse_c`` and ``av_offset`` of each row of a clip, and why a row has none.

    Args:
        judge: `experiments.video_judges.SyncJudge`.
        rows: Row -> frames ``(T, 3, H, W)`` uint8 and landmarks of each take.
        waveform: ``(640 T,)`` the clip's speech.
        foreign: Likewise, of another voice, that the takes are held against for ``shuffled``; None: there is none.
    """
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    for row, takes in rows.items():
        pairs = [("" if row == "generated" else f"_{row}", waveform)]
        if row == "generated" and foreign is not None:
            pairs.append(("_shuffled", foreign))
        try:
            seen = [judge.crops(frames, points) for frames, points in takes]
            found = [judge.measure(crops, [speech for _, speech in pairs]) for crops in seen]
            for place, (suffix, _) in enumerate(pairs):
                for name in found[0][place]:
                    values[f"{name}{suffix}"] = over_takes(name, [take[place][name] for take in found])
        except ValueError as error:  # too short, or no track of a face
            absent[row] = str(error)
    return values, absent
