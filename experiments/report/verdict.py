"""What a model learnt and did not learn, in words, judged by its own numbers and their intervals."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.page import Section
from experiments.report.tables import Interval, counted, interval, number, people_in

STEADY = 0.15
"""Difference of lip correlation between intensities below which the lips are said not to depend on it."""
NOTICEABLE = 0.05
"""Degrees of head motion."""
LIKE_REAL = (0.6, 1.6)
"""Shares of the real clips' value between which a value is called like theirs."""
NOTHING: Interval = {"value": None, "low": None, "high": None}
HOLDS = {True: "Holds", False: "Does not hold"}
Point = tuple[str, str] | None
"""A verdict and what it is about; None where there are no values."""


def verdict_section(results: Mapping[str, Any], sweep: Sequence[Mapping[str, Any]]) -> Section:
    """The section of a report that says what was learnt; of what has no value it says nothing.

    By the results of a model on drawn heads, whose true lips are known, and the rows of a sweep over the motion intensity, of
    which the first series counts.
    """
    first = next((row["series"] for row in sweep if row["value"] is not None), None)
    sweep = [row for row in sweep if row["series"] == first and row["value"] is not None]
    found: Mapping[str, Interval] = defaultdict(lambda: NOTHING, results["metrics"])
    lips = _lips(*(found[f"lip_corr_zero{row}"] for row in ("", "_swapped", "_autoencoder")))
    points = [
        _picture(found["psnr_gain"]),
        lips,
        _head(sweep, found["head_motion_real"]),
        _steady_lips(sweep) if lips and lips[0] == "Learnt" else None,
        _like_real("the mouth moves", "", found["mouth_motion"], found["mouth_motion_real"]),
        _like_real("it blinks", " times a minute", found["blink_rate"], found["blink_rate_real"]),
    ]
    clips = results["clips"]
    shown = f"{counted(len(clips), 'clip')} of {counted(people_in(clips), 'head')} that training never saw"
    return Section(
        "What it learnt, and what not",
        f"Read off the tables below: {shown}, one training run. Few clips make wide intervals, another seed another model.",
        points=[point for point in points if point],
    )


def _picture(gain: Interval) -> Point:
    if gain["value"] is None:
        return None
    word = "Learnt" if (gain["low"] or 0) > 0 else "Unclear" if gain["value"] > 0 else "Not learnt"
    return word, (
        f"to move a face. With the true motion the autoencoder's frames are {interval(gain, 'dB')} nearer to the real ones "
        "than the source frame standing still."
    )


def _lips(lips: Interval, floor: Interval, ceiling: Interval) -> Point:
    if floor["value"] is None and ceiling["value"] is None:
        return None
    if lips["value"] is None:
        return "Not learnt", "lips that follow the speech: they hardly move."
    apart = None not in (lips["low"], floor["high"]) and lips["low"] > floor["high"]
    word = "Learnt" if apart else "Unclear" if lips["value"] > (floor["value"] or 0) else "Not learnt"
    return word, (
        f"lips that follow the speech. Correlation with the true lip opening, without any shift: {interval(lips)}; motion "
        f"made from another voice's speech: {interval(floor)}; the true motion through the same autoencoder: "
        f"{interval(ceiling)}."
    )


def _head(sweep: Sequence[Mapping[str, Any]], real: Interval) -> Point:
    steps = {row["value"]: row["head_motion"]["value"] for row in sweep}
    if len(steps) < 2 or None in steps.values():
        return None
    grows = all(after - before > NOTICEABLE for before, after in itertools.pairwise(steps.values()))
    told = ", ".join(f"{number(value, '°')} at {intensity:g}" for intensity, value in steps.items())
    what = f"the head moves more at every step of the intensity: {told}; real heads {number(real['value'], '°')}."
    return HOLDS[grows], what


def _steady_lips(sweep: Sequence[Mapping[str, Any]]) -> Point:
    values = [row["lip_corr_zero"]["value"] for row in sweep if row["lip_corr_zero"]["value"] is not None]
    if len(values) < 2:
        return None
    told = f"correlation {number(min(values))} to {number(max(values))}."
    steady = max(values) - min(values) <= STEADY
    return HOLDS[steady], f"the lips follow the speech alike at every intensity: {told}"


def _like_real(what: str, unit: str, ours: Interval, reals: Interval) -> Point:
    value, real = ours["value"], reals["value"]
    if value is None or not real:
        return None
    decimals = 0 if unit else 3
    told = f"{value:.{decimals}f}{unit}, real heads {real:.{decimals}f}."
    alike = LIKE_REAL[0] <= value / real <= LIKE_REAL[1]
    return HOLDS[alike], f"{what} about as much as real heads do: {told}"
