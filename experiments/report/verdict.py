"""What a model learnt and did not learn, in words, judged by its own numbers and their intervals."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.page import Section
from experiments.report.tables import counted, interval, number

STEADY = 0.15
"""Difference of lip correlation between intensities below which the lips are said not to depend on it."""
NOTICEABLE = 0.05
"""Degrees of head motion."""
LIKE_REAL = (0.6, 1.6)
"""Shares of the real clips' value between which a value is called like theirs."""

Interval = Mapping[str, Any]
NOTHING: Interval = {"value": None, "low": None, "high": None}


def verdict_section(results: Mapping[str, Any], sweep: Sequence[Mapping[str, Any]]) -> Section:
    """The section of a report that says what was learnt; of what has no value it says nothing.

    Args:
        results: Of the evaluation of a model on drawn heads, whose true lips are known.
        sweep: Rows of a sweep over the motion intensity.
    """
    found, clips = results["metrics"], results["clips"]
    people = len({clip.get("identity", clip["clip"]) for clip in clips})
    floor = found.get("lip_corr_zero_swapped", NOTHING)
    follows = _above(found.get("lip_corr_zero", NOTHING), floor)
    points = [
        _picture(found.get("psnr_gain", NOTHING)),
        _lips(found.get("lip_corr_zero", NOTHING), floor, found.get("lip_corr_zero_autoencoder", NOTHING)),
        _head(sweep, found.get("head_motion_real", NOTHING)),
        _steady_lips(sweep) if follows else None,
        _like_real("the mouth moves", "", found, "mouth_motion"),
        _like_real("it blinks", " times a minute", found, "blink_rate"),
    ]
    shown = f"{counted(len(clips), 'clip')} of {counted(people, 'head')} that training never saw"
    return Section(
        "What it learnt, and what not",
        f"Read off the tables below: {shown}, one training run. Few clips make wide intervals, another seed another model.",
        points=[point for point in points if point],
    )


def _above(one: Interval, other: Interval) -> bool:
    """Whether the intervals say that ``one`` is the higher."""
    return one["low"] is not None and other["high"] is not None and one["low"] > other["high"]


def _picture(gain: Interval) -> tuple[str, str] | None:
    if gain["value"] is None:
        return None
    word = "Learnt" if (gain["low"] or 0) > 0 else "Unclear" if gain["value"] > 0 else "Not learnt"
    return word, (
        f"to move a face. With the true motion the autoencoder's frames are {interval(gain, 'dB')} nearer to the real ones "
        "than the source frame standing still."
    )


def _lips(lips: Interval, floor: Interval, ceiling: Interval) -> tuple[str, str] | None:
    if floor["value"] is None and ceiling["value"] is None:
        return None
    if lips["value"] is None:
        return "Not learnt", "lips that follow the speech: they hardly move."
    word = "Unclear" if lips["value"] > (floor["value"] or 0) else "Not learnt"
    return "Learnt" if _above(lips, floor) else word, (
        f"lips that follow the speech. Correlation with the true lip opening, without any shift: {interval(lips)}; motion "
        f"made from another voice's speech: {interval(floor)}; the true motion through the same autoencoder: "
        f"{interval(ceiling)}."
    )


def _head(sweep: Sequence[Mapping[str, Any]], real: Interval) -> tuple[str, str] | None:
    steps = {row["intensity"]: row["head_motion"]["value"] for row in sweep}
    if len(steps) < 2 or None in steps.values():
        return None
    grows = all(after - before > NOTICEABLE for before, after in itertools.pairwise(steps.values()))
    told = ", ".join(f"{number(value, '°')} at {intensity:g}" for intensity, value in steps.items())
    return "Holds" if grows else "Does not hold", (
        f"the head moves more at every step of the intensity: {told}; real heads {number(real['value'], '°')}."
    )


def _steady_lips(sweep: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    values = [row["lip_corr_zero"]["value"] for row in sweep if row["lip_corr_zero"]["value"] is not None]
    if len(values) < 2:
        return None
    return "Holds" if max(values) - min(values) <= STEADY else "Does not hold", (
        "the lips follow the speech alike at every intensity: correlation "
        f"{number(min(values))} to {number(max(values))}."
    )


def _like_real(what: str, unit: str, found: Mapping[str, Interval], name: str) -> tuple[str, str] | None:
    value, real = (found.get(key, NOTHING)["value"] for key in (name, f"{name}_real"))
    if value is None or not real:
        return None
    decimals = 0 if unit else 3
    told = f"{value:.{decimals}f}{unit}, real heads {real:.{decimals}f}."
    holds = LIKE_REAL[0] <= value / real <= LIKE_REAL[1]
    return "Holds" if holds else "Does not hold", f"{what} about as much as real heads do: {told}"
