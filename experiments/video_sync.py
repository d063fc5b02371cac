"""Lip sync of all clips of an evaluation, once all of them are seen: its judges are fitted on other people's clips."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from metrics.av_correlation import SpokenClip, fit_without, measure_sync

SYNC_ROWS = ("real", "codec", "autoencoder", "generated", "shuffled")
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
    """

    name: str
    identity: str
    voice: str
    waveform: np.ndarray | None
    lips: dict[str, list[np.ndarray]] = field(default_factory=dict)


def next_voice(clips: Sequence[Heard], place: int) -> Heard | None:
    """The next clip with sound and another voice than the one at ``place``; after the last comes the first."""
    own = clips[place]
    others = [*clips[place + 1 :], *clips[:place]]
    return next((one for one in others if one.waveform is not None and one.voice != own.voice), None)


def correlations(clips: Sequence[Heard], place: int) -> tuple[dict[str, float], str]:
    """``av_*`` of the clip at ``place`` for each row, by a regression fitted on the others; or why there is none.

    The row ``shuffled`` is the method's lips against another voice's speech, or, where a row of that name was made from
    such speech, its lips against the clip's own.
    """
    own = clips[place]
    if own.waveform is None:
        return {}, "no sound"
    spoken = [
        SpokenClip(clip.identity, clip.voice, clip.waveform, clip.lips["real"][0])
        for clip in clips
        if clip.waveform is not None
    ]
    regressor = fit_without(spoken, own.identity, own.voice)
    if regressor is None:
        return {}, "no clip of another face and voice to fit the regression on"
    other = next_voice(clips, place)
    values: dict[str, float] = {}
    for row in SYNC_ROWS:
        takes = own.lips.get(row, [])
        speech, known = own.waveform, {own.voice}
        if row == "shuffled" and not takes:
            takes = own.lips.get("generated", [])
            if other is None or other.waveform is None:
                continue
            speech, known = np.resize(other.waveform, len(own.waveform)), {own.voice, other.voice}
        if not takes:
            continue
        foreign = [clip.waveform for clip in spoken if clip.voice not in known][:MOST_FOREIGN]
        found = [measure_sync(lips, speech, regressor, foreign) for lips in takes]
        for name in found[0]:
            suffix = "" if row == "generated" else f"_{row}"
            values[f"{name}{suffix}"] = float(np.mean([one[name] for one in found]))
    return values, ""


def network_scores(
    judge: Any,
    rows: dict[str, list[tuple[Tensor, np.ndarray | None]]],
    waveform: np.ndarray,
    swapped: np.ndarray | None,
) -> dict[str, float]:
    """``lse_d``, ``lse_c`` and ``av_offset`` of each row of a clip.

    Args:
        judge: `experiments.video_judges.SyncJudge`.
        rows: Row -> frames ``(T, 3, H, W)`` uint8 and landmarks of each take.
        waveform: ``(640 T,)`` the clip's speech.
        swapped: Likewise, of another voice; None: the row ``shuffled`` is left out.

    Raises:
        ValueError: The clip is too short, or shows no track of a face.
    """
    values: dict[str, list[float]] = {}
    for row, takes in rows.items():
        for frames, points in takes:
            crops = judge.crops(frames, points)
            pairs = [("" if row == "generated" else f"_{row}", waveform)]
            if row == "generated" and swapped is not None:
                pairs.append(("_shuffled", swapped))
            for suffix, speech in pairs:
                for name, value in judge.measure(crops, speech).items():
                    values.setdefault(f"{name}{suffix}", []).append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}
