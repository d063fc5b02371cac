"""MediaPipe's landmarks as the judge of motion."""

from types import SimpleNamespace

import numpy as np

from metrics.judges.landmark_judge import LandmarkJudge, curves_of
from metrics.motion import measure_motion


def test_lips_over_eyes_and_missing_faces():
    """Known landmarks give the known ratio, on frames that are not square too; no face gives NaN."""
    landmarks = np.zeros((2, 478, 3), np.float32)
    landmarks[0, 33], landmarks[0, 263] = (0.3, 0.4, 0), (0.7, 0.4, 0)
    landmarks[0, 13], landmarks[0, 14] = (0.5, 0.6, 0), (0.5, 0.65, 0)
    landmarks[1] = np.nan
    seen = SimpleNamespace(
        landmarks=landmarks,
        blink=np.array([0.5, np.nan], np.float32),
        rotation=np.array([[1, 2, 3], [np.nan] * 3], np.float32),
    )
    curves = curves_of(seen, 200, 100)
    np.testing.assert_allclose(curves.lip_opening, [0.05 * 200 / (0.4 * 100), np.nan], rtol=1e-5)
    np.testing.assert_allclose(curves.blink, [0.5, np.nan])
    assert np.isnan(curves.rotation[1]).all()


def test_every_frame_is_looked_at(shared, monkeypatch):
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    judge = LandmarkJudge()
    assert len(judge.sha256) == 64
    frames = np.zeros((2, 64, 80, 3), np.uint8)
    curves, points = judge.look(frames)
    assert points.shape == (2, 478, 3)
    assert np.isnan(points).all()  # nobody is there
    np.testing.assert_array_equal(measure_motion(frames, judge).rotation, curves.rotation)
