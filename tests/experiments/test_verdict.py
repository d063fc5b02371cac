"""What the report says in words follows the numbers, whichever way they turn out."""

import pytest

from experiments.report.verdict import verdict_section


def interval(value: float | None, spread: float = 0.05) -> dict:
    low, high = (None, None) if value is None else (value - spread, value + spread)
    return {"value": value, "low": low, "high": high, "n": 3}


def points(metrics: dict, heads=(0.1, 1.0, 2.0), lips=(0.7, 0.7, 0.7)) -> dict[str, str]:
    """Beginning of a statement -> its verdict."""
    results = {"metrics": metrics, "clips": [{"clip": "a", "identity": "x"}, {"clip": "b", "identity": "y"}]}
    sweep = [
        {"series": "motion", "value": float(i), "head_motion": interval(head), "lip_corr_zero": interval(lip)}
        for i, (head, lip) in enumerate(zip(heads, lips, strict=True))
    ]
    other = {"series": "statistics", "value": 9.0, "head_motion": interval(0), "lip_corr_zero": interval(0)}
    section = verdict_section(results, [*sweep, other])  # of the first series it speaks
    assert "2 clips of 2 heads" in section.lead
    return {text[:12]: word for word, text in section.points}


@pytest.mark.parametrize(
    ("gain", "word"), [(2.0, "Learnt"), (0.02, "Unclear"), (-1.0, "Not learnt"), (None, None)]
)
def test_the_picture(gain, word):
    assert points({"psnr_gain": interval(gain)}).get("to move a fa") == word


@pytest.mark.parametrize(
    ("lips", "floor", "word"),
    [(0.7, 0.1, "Learnt"), (0.15, 0.1, "Unclear"), (0.05, 0.1, "Not learnt"), (None, 0.1, "Not learnt")],
)
def test_lips_against_foreign_speech(lips, floor, word):
    found = points({"lip_corr_zero": interval(lips), "lip_corr_zero_swapped": interval(floor)})
    assert found["lips that fo"] == word
    assert ("the lips fol" in found) == (word == "Learnt")  # only of lips that follow it is asked when


def test_head_and_lips_over_the_intensity():
    learnt = {"lip_corr_zero": interval(0.7), "lip_corr_zero_swapped": interval(0.1)}
    assert points(learnt)["the head mov"] == points(learnt)["the lips fol"] == "Holds"
    assert points(learnt, heads=(0.1, 1.0, 0.9))["the head mov"] == "Does not hold"
    assert points(learnt, lips=(0.7, 0.7, 0.3))["the lips fol"] == "Does not hold"
    assert "the head mov" not in points(learnt, heads=(0.1, None, 0.9))


@pytest.mark.parametrize(
    ("blinks", "word"), [(20.0, "Holds"), (7.0, "Does not hold"), (50.0, "Does not hold")]
)
def test_blinks_beside_real_ones(blinks, word):
    found = points({"blink_rate": interval(blinks), "blink_rate_real": interval(22.0)})
    assert found["it blinks ab"] == word
