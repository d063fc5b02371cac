"""Lip sync of all clips of an evaluation, once all of them are seen: its judges are fitted on other people's clips."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from experiments.video_pairs import Foreign
from metrics.av_correlation import SpokenClip, fit_without, measure_sync
from metrics.protocol import is_lag

SYNC_ROWS = ("real", "codec", "autoencoder", "generated", "shuffled")
REGRESSION_SCORES = "av_corr, av_corr_zero, av_lag, av_retrieval"
NETWORK_SCORES = "lse_d, lse_c, av_offset"
MOST_FOREIGN = 20
"""Clips at most whose speech retrieval chooses among: more cost time and change little."""


@dataclass
class Heard:
    """What lip sync is judged by: one clip's speech, and the lips of its rows.

    Attributes:
        name: Of the clip.
        identity: Who is seen.
        voice: Who is heard.
        waveform: ``(640 T,)``, or None without sound.
        lips: Row -> lip opening ``(T,)`` of each take.
        swapped: Speech of another voice that the row ``shuffled`` is held against or was made from; None: there is none.
    """

    name: str
    identity: str
    voice: str
    waveform: np.ndarray | None
    lips: dict[str, list[np.ndarray]] = field(default_factory=dict)
    swapped: Foreign | None = None


def correlations(clips: Sequence[Heard], place: int) -> tuple[dict[str, float], int, str]:
    """``av_*`` of the clip at ``place`` for each row, by a regression fitted on so many others; or why there is none.

    The row ``shuffled`` is the method's lips against another voice's speech, or, where a row of that name was made from
    such speech, its lips against the clip's own.
    """
    own = clips[place]
    if own.waveform is None:
        return {}, 0, "no sound"
    spoken = [
        SpokenClip(clip.identity, clip.voice, clip.waveform, clip.lips["real"][0])
        for clip in clips
        if clip.waveform is not None
    ]
    regressor = fit_without(spoken, own.identity, own.voice)
    if regressor is None:
        return {}, 0, "no clip of another face and voice to fit the regression on"
    values: dict[str, float] = {}
    for row in SYNC_ROWS:
        takes = own.lips.get(row, [])
        speech, known = own.waveform, {own.voice}
        if row == "shuffled":
            if own.swapped is None:
                continue
            known = {own.voice, own.swapped.voice}  # lips made from it would find it, rightly
            if not takes:
                takes, speech = own.lips.get("generated", []), own.swapped.waveform
        if not takes:
            continue
        foreign = [clip.waveform for clip in spoken if clip.voice not in known][:MOST_FOREIGN]
        found = [measure_sync(lips, speech, regressor, foreign) for lips in takes]
        suffix = "" if row == "generated" else f"_{row}"
        for name in found[0]:
            values[f"{name}{suffix}"] = over_takes(name, [one[name] for one in found])
    return values, len(regressor.lags), ""


def over_takes(name: str, values: Sequence[float]) -> float:
    """A measure of one clip from those of its takes: their mean, of a lag the median."""
    return float(np.median(values) if is_lag(name) else np.mean(values))


def network_scores(
    judge: Any,
    rows: dict[str, list[tuple[Tensor, np.ndarray | None]]],
    waveform: np.ndarray,
    swapped: np.ndarray | None,
) -> tuple[dict[str, float], dict[str, str]]:
    """``lse_d``, ``lse_c`` and ``av_offset`` of each row of a clip, and why a row has none.

    Args:
        judge: `experiments.video_judges.SyncJudge`.
        rows: Row -> frames ``(T, 3, H, W)`` uint8 and landmarks of each take.
        waveform: ``(640 T,)`` the clip's speech.
        swapped: Likewise, of another voice, that the takes are held against for the row ``shuffled``; None: they are not.
    """
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    for row, takes in rows.items():
        pairs = [("" if row == "generated" else f"_{row}", waveform)]
        if row == "generated" and swapped is not None:
            pairs.append(("_shuffled", swapped))
        try:
            seen = [judge.crops(frames, points) for frames, points in takes]
            for suffix, speech in pairs:
                found = [judge.measure(crops, speech) for crops in seen]
                for name in found[0]:
                    values[f"{name}{suffix}"] = over_takes(name, [one[name] for one in found])
        except ValueError as error:  # too short, or no track of a face
            absent[row] = str(error)
    return values, absent
