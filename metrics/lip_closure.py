"""Lip sync by phones: whether the lips of a video are closed where p, b and m are spoken.

These three can't be spoken with open lips, so every viewer sees where a face gets them wrong. Animators hold it as a
rule that "bilabials must close the lips" (Edwards et al. 2016, "JALI"); here it is counted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.batches import FPS
from datamodules.clips.phones import Phone

_BILABIAL = re.compile(r"[pbm](?![a-z])|em(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class LipRangeSettings:
    """How far lips move in a clip, and when that is too little to say anything of their speech."""

    levels: tuple[float, float] = (5, 95)  # percentiles of its lip opening: lips closed and wide open
    # lips that move less than this share of the real clip's range say nothing: closed ones would be right everywhere
    still: float = 0.1


LIP_RANGE = LipRangeSettings()
"""The default of all that asks whether lips move."""


@dataclass(frozen=True)
class ClosureSettings:
    """When the lips are closed at a phone."""

    # share of the way from the low to the high level of the real clip up to which they are
    closed: float = 0.2
    before: float = 0.06  # seconds before a phone in which its closure counts: lips close before it is heard
    after: float = 0.0  # seconds behind it, likewise


def is_bilabial(label: str) -> bool:
    """Whether a phone is p, b or m, in IPA or ARPABET: ``p``, ``pʰ``, ``M``, ``B_B``, ``EM``; not ``pf``."""
    return _BILABIAL.match(label) is not None


def closed_level(
    lip_opening: np.ndarray,
    settings: ClosureSettings = ClosureSettings(),
    lip_range: LipRangeSettings = LIP_RANGE,
) -> float:
    """Opening up to which lips count as closed, by that of the real clip ``(T,)`` in any unit; NaN without a face."""
    low, high = _levels(lip_opening, lip_range)
    return low + settings.closed * (high - low)


def _levels(lip_opening: np.ndarray, settings: LipRangeSettings) -> tuple[float, float]:
    known = lip_opening[np.isfinite(lip_opening)]
    low, high = np.percentile(known, settings.levels) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def hardly_move(lip_opening: np.ndarray, real: np.ndarray, settings: LipRangeSettings = LIP_RANGE) -> bool:
    """Whether lips move so little beside the real ones, or show so seldom, that nothing can be said of their speech.

    The openings ``(T,)`` of the judged video and ``(T',)`` of the real clip have one unit; NaN on frames without a face.
    """
    low, high = _levels(lip_opening, settings)
    real_low, real_high = _levels(real, settings)
    return not high - low > settings.still * (real_high - real_low)


def lip_closure(
    lip_opening: np.ndarray,
    real: np.ndarray,
    phones: Sequence[Phone],
    settings: ClosureSettings = ClosureSettings(),
    lip_range: LipRangeSettings = LIP_RANGE,
) -> float:
    """Share of p, b and m at which the lips are closed in at least one frame.

    The level at which they are closed is that of the real clip: by its own, a mouth that never shuts would shut at
    its smallest opening. A mouth at rest is no merit: read the value beside the one with another clip's phones.

    In [0, 1] of openings ``(T,)`` at 25 fps in one unit, NaN on frames without a face; phones that are no p, b or m, or lie
    beyond the clip's end, are left out. NaN without such a phone on frames with a face, or for lips that hardly move.

    Raises:
        ValueError: The lengths differ.
    """
    if lip_opening.shape != real.shape:
        raise ValueError(f"{len(lip_opening)} frames of lips against {len(real)} of the real clip")
    if hardly_move(lip_opening, real, lip_range):
        return float("nan")
    level, times = closed_level(real, settings, lip_range), np.arange(len(lip_opening)) / FPS
    closed = []
    for phone in phones:
        if is_bilabial(phone.label) and phone.end <= len(lip_opening) / FPS:
            near = (times >= phone.start - settings.before) & (times <= phone.end + settings.after)
            seen = lip_opening[near]
            if np.isfinite(seen).any():
                closed.append(np.nanmin(seen) <= level)
    return float(np.mean(closed)) if closed else float("nan")
