"""What a model learnt and did not learn, in words, judged by its own numbers and their intervals."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.page import Section
from experiments.report.tables import interval, number

STEADY = 0.15
"""Difference of lip correlation between intensities below which the lips are said to be independent of it."""
LIKE_REAL = (0.6, 1.6)
"""Share of the real clips' value that is called about as much as real."""

Interval = Mapping[str, Any]


def verdict_section(results: Mapping[str, Any], sweep: Sequence[Mapping[str, Any]]) -> Section:
    """The section of a report that says what was learnt.

    Args:
        results: Of the evaluation of a model on drawn heads, whose true lips are known.
        sweep: Rows of a sweep over the motion intensity.
    """
    metrics = results["metrics"]
    points = [
        _picture(metrics.get("psnr_gain")),
        _lips(*(metrics.get(f"lip_corr_zero{row}") for row in ("", "_swapped", "_autoencoder"))),
        _intensity(sweep, metrics.get("head_motion_real")),
        _steady_lips(sweep, metrics.get("lip_corr_zero"), metrics.get("lip_corr_zero_swapped")),
        _like_real("mouth's motion", metrics.get("mouth_motion"), metrics.get("mouth_motion_real"), ""),
        _like_real("blinking", metrics.get("blink_rate"), metrics.get("blink_rate_real"), "/min"),
    ]
    clips = results["clips"]
    people = len({clip.get("identity", clip["clip"]) for clip in clips})
    return Section(
        "What it learnt, and what not",
        f"Read off the tables below, of {len(clips)} clips of {people} heads that training never saw and one training "
        "run: few clips make wide intervals, and another seed another model.",
        points=[point for point in points if point],
    )


def _known(*intervals: Interval | None) -> bool:
    return all(one is not None and one["value"] is not None for one in intervals)


def _above(one: Interval, other: Interval | None) -> bool:
    """Whether the intervals say that ``one`` is higher than ``other`` (None: than nought)."""
    if one["low"] is None or (other is not None and other["high"] is None):
        return False
    return one["low"] > (0.0 if other is None else other["high"])


def _picture(gain: Interval | None) -> str:
    if gain is None or not _known(gain):
        return ""
    told = f"{interval(gain, 'dB')} nearer to the real frames than the still source frame is"
    if _above(gain, None):
        return f"Learnt: to move a face. With the true motion the autoencoder's frames are {told}."
    if gain["value"] > 0:
        return (
            f"Unclear: to move a face. With the true motion the frames are {told}, which chance may explain."
        )
    return (
        f"Not learnt: to move a face. With the true motion the frames are {told}: they are farther from them."
    )


def _lips(lips: Interval | None, floor: Interval | None, ceiling: Interval | None) -> str:
    if lips is None or floor is None or not _known(floor):
        return ""
    if not _known(lips):
        return "Not learnt: lips that follow the speech. They hardly move."
    told = (
        f"the correlation with the true lip opening is {interval(lips)}, where motion made from another voice's speech has "
        f"{interval(floor)}"
    )
    if ceiling is not None and _known(ceiling):
        told += f" and the true motion through the same autoencoder {interval(ceiling)}"
    if _above(lips, floor):
        return f"Learnt: lips that follow the speech. At the right moment {told}."
    if lips["value"] > floor["value"]:
        return f"Unclear: lips that follow the speech. At the right moment {told}: the intervals overlap."
    return f"Not learnt: lips that follow the speech. At the right moment {told}."


def _intensity(sweep: Sequence[Mapping[str, Any]], real: Interval | None) -> str:
    steps = [row for row in sweep if _known(row.get("head_motion"))]
    if len(steps) < 2:
        return ""
    values = [row["head_motion"]["value"] for row in steps]
    told = ", ".join(
        f"{number(value, '°')} at {row['intensity']:g}" for value, row in zip(values, steps, strict=True)
    )
    if real is not None and _known(real):
        told += f" (real heads: {number(real['value'], '°')})"
    if all(after > before for before, after in itertools.pairwise(values)):
        return f"Holds: the head moves more the higher the intensity, at every step: {told}."
    return f"Does not hold: that the head moves more the higher the intensity: {told}."


def _steady_lips(sweep: Sequence[Mapping[str, Any]], lips: Interval | None, floor: Interval | None) -> str:
    """Only of lips that follow the speech at all."""
    values = [row["lip_corr_zero"]["value"] for row in sweep if _known(row.get("lip_corr_zero"))]
    if lips is None or len(values) < 2 or not _known(lips) or not _above(lips, floor):
        return ""
    told = f"the correlation is {number(min(values))} to {number(max(values))} over the intensities"
    if max(values) - min(values) <= STEADY:
        return f"Holds: the lips are independent of the head's intensity: {told}."
    return f"Does not hold: that the lips are independent of the head's intensity: {told}."


def _like_real(what: str, one: Interval | None, real: Interval | None, unit: str) -> str:
    if one is None or real is None or not _known(one, real) or not real["value"]:
        return ""
    share = one["value"] / real["value"]
    told = f"{number(one['value'], unit)} where the real clips have {number(real['value'], unit)}"
    if LIKE_REAL[0] <= share <= LIKE_REAL[1]:
        return f"Holds: the {what} is about as much as real: {told}."
    return f"Does not hold: the {what} is {'too little' if share < 1 else 'too much'}: {told}."
