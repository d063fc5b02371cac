"""The benchmark scripts on made-up landmarks: no model file is needed."""

import numpy as np
import pytest

from datamodules.faces.landmarks import FaceMeasurements
from metrics.judges import landmark_judge
from metrics.motion import MotionCurves

FRAMES = 100
TIMES = np.arange(FRAMES) / 25


def seen(shift: np.ndarray | float = 0.0, found: np.ndarray | None = None) -> FaceMeasurements:
    """A face that nods by 5 degrees at 0.5 Hz and opens its mouth, eye corners 0.4 apart, moved by ``shift``."""
    found = np.ones(FRAMES, bool) if found is None else found
    landmarks = np.full((FRAMES, 478, 3), 0.5, np.float32)
    landmarks[:, 33, 0], landmarks[:, 263, 0] = 0.3, 0.7
    landmarks[:, 14, 1] += 0.04 * (1 + np.sin(2 * np.pi * TIMES))
    landmarks[:, :, 0] += np.broadcast_to(shift, FRAMES)[:, None]
    rotation = np.zeros((FRAMES, 3), np.float32)
    rotation[:, 1] = 5 * np.sin(np.pi * TIMES)
    blink = np.zeros(FRAMES, np.float32)
    blink[40:44] = 1.0
    for array in (landmarks, rotation, blink):
        array[~found] = np.nan
    return FaceMeasurements(landmarks, rotation, blink)


def test_measures_have_their_units(load):
    judged = load("judged_clips")
    measures = judged.measures_of(judged.curves_of(seen()))
    assert measures["pitch std (deg)"] == pytest.approx(5 / np.sqrt(2), rel=0.01)
    assert measures["head_motion (deg)"] == pytest.approx(5 / np.sqrt(6), rel=0.01)
    assert measures["head tempo (Hz)"] == pytest.approx(0.5, rel=0.05)
    assert measures["head speed, 95 % (deg/s)"] == pytest.approx(5 * np.pi, rel=0.05)
    assert measures["mouth_motion (eye distances)"] == pytest.approx(0.1 / np.sqrt(2), rel=0.01)
    assert measures["blink_rate (1/min)"] == pytest.approx(15.0)
    assert measures["jitter (1/1000 eye distance)"] == pytest.approx(0.0, abs=1e-3)


def test_curves_are_those_of_the_judge(load):
    expected = landmark_judge.curves_of(seen(), 8, 8)
    curves = load("judged_clips").curves_of(seen())
    for name in ("rotation", "lip_opening", "blink"):
        np.testing.assert_allclose(getattr(curves, name), getattr(expected, name), rtol=1e-5, atol=1e-6)


def test_trembling_is_seen_in_thousandths_of_the_eye_distance(load):
    judged = load("judged_clips")
    trembling = 0.004 * np.sin(2 * np.pi * 8 * TIMES)  # of the side: 0.01 eye distances, of x alone
    measures = judged.measures_of(judged.curves_of(seen(trembling)))
    assert measures["jitter (1/1000 eye distance)"] == pytest.approx(10 / 2, rel=0.05)


@pytest.mark.parametrize(
    ("shift", "found", "reason"),
    [(0.3 * (TIMES > 2), None, "cut"), (0.0, TIMES >= 1, "75%")],
)
def test_unfit_clips_are_refused(load, shift, found, reason):
    judged = load("judged_clips")
    with pytest.raises(judged.UnfitClipError, match=reason):
        judged.curves_of(seen(shift, found))


def test_share_of_synthetic_clips_in_the_real_range(load):
    motion = load("synthetic_motion")
    real = [{"m": float(value)} for value in range(101)]
    row = motion.compare(real, [{"m": 4.0}, {"m": 50.0}, {"m": 60.0}, {"m": 99.0}])["m"]
    assert (row["real 5 %"], row["real 50 %"], row["real 95 %"]) == (5.0, 50.0, 95.0)
    assert row["share inside"] == 0.5
    assert "| m | 5 | 50 | 95 | 10.9 | 55 | 93.1 | 50% |" in motion.table({"m": row})


def test_agreement_with_the_truth(load):
    """A judge that sees 0.8 of the yaw, an offset of 3 degrees in pitch, and no face in one frame of 200."""
    landmarks = load("synthetic_landmarks")
    generator = np.random.default_rng(0)
    clips = []
    for _ in range(2):
        rotation = 4 * generator.standard_normal((FRAMES, 3))
        opening, blink = generator.random((2, FRAMES))
        clips.append(
            (
                MotionCurves(rotation * [0.8, 1, 1] + [0, 3, 0], opening.copy(), blink.copy()),
                MotionCurves(rotation, opening, blink),
            )
        )
    lost = clips[0][0]
    lost.rotation[5], lost.lip_opening[5], lost.blink[5] = np.nan, np.nan, np.nan
    figures = landmarks.compare(clips)
    assert figures["share of frames with a face"] == pytest.approx(0.995)
    assert figures["lip opening: correlation, median over clips"] == pytest.approx(1.0)
    assert figures["yaw: slope of seen on true"] == pytest.approx(0.8)
    assert figures["yaw: RMS error in degrees, clip offsets taken out"] == pytest.approx(0.8, rel=0.1)
    assert figures["pitch: mean offset in degrees, seen - true"] == pytest.approx(3.0)
    assert figures["pitch: RMS error in degrees, clip offsets taken out"] == pytest.approx(0.0, abs=1e-6)
    assert set(landmarks.GOALS) <= set(figures)
