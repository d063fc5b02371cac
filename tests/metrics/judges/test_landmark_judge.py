from types import SimpleNamespace

import numpy as np

from metrics.judges import landmark_judge
from metrics.judges.landmark_judge import LandmarkJudge
from metrics.motion import measure


def test_lips_over_eyes_and_missing_faces(monkeypatch, tmp_path):
    """Known landmarks give the known ratio, on frames that are not square too; no face gives NaN."""
    landmarks = np.zeros((2, 478, 3), np.float32)
    landmarks[0, 33], landmarks[0, 263] = (0.3, 0.4, 0), (0.7, 0.4, 0)
    landmarks[0, 13], landmarks[0, 14] = (0.5, 0.6, 0), (0.5, 0.65, 0)
    landmarks[1] = np.nan
    shapes = np.array([[0.2, 0.8, 0.1], [np.nan] * 3], np.float32)
    seen = SimpleNamespace(
        found=np.array([True, False]),
        landmarks=landmarks,
        blendshapes=shapes,
        blendshape_names=("eyeBlinkLeft", "eyeBlinkRight", "jawOpen"),
        rotation=np.array([[1, 2, 3], [np.nan] * 3], np.float32),
    )
    model = tmp_path / "face_landmarker.task"
    model.write_bytes(b"x")
    monkeypatch.setattr(landmark_judge.assets, "find", lambda name: model)
    monkeypatch.setattr(
        landmark_judge, "measure_landmarks", lambda frames, mode: seen if mode == "image" else None
    )
    judge = LandmarkJudge()
    assert len(judge.sha256) == 64
    curves = measure(np.zeros((2, 200, 100, 3), np.uint8), judge)
    np.testing.assert_allclose(curves.lip_opening, [0.05 * 200 / (0.4 * 100), np.nan], rtol=1e-5)
    np.testing.assert_allclose(curves.blink, [0.5, np.nan])
    assert np.isnan(curves.rotation[1]).all()
