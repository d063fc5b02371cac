import numpy as np
import pytest
import torch

from datamodules.faces.landmarks import FaceMeasurements
from metrics.alignment import cut_aligned, fit_similarity
from metrics.judges import landmark_judge
from metrics.landmarks import (
    AKD,
    LMD,
    MOUTH,
    RIGID,
    MouthLMD,
    eye_distance,
    keypoint_distance,
    landmark_distance,
    mouth_distance,
    rigid_jitter,
    to_pixels,
)
from metrics.measures import MotionOfClips


def face(frames: int = 30, seed: int = 0) -> np.ndarray:
    """Landmarks ``(T, 478, 3)`` of a rigid cloud about 200 px wide whose outer eye corners lie 100 px apart."""
    points = np.random.default_rng(seed).uniform(-100, 100, (478, 3)) + 256
    points[33], points[263] = (206, 230, 250), (306, 230, 250)
    return np.repeat(points[None], frames, axis=0)


def turned(points: np.ndarray, degrees: float, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """The points after a turn about the vertical axis, a scale and a shift."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * (points - 256) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + 256 + shift


def test_similarity_is_found_again_in_plane_and_space():
    points = face(3)[:, :10]
    for axes in (2, 3):
        angle = np.radians(25)
        rotation = np.eye(axes)
        rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        target = 1.7 * points[..., :axes] @ rotation.T + 5
        found = fit_similarity(points[..., :axes], target)
        assert found.matrix == pytest.approx(np.repeat(1.7 * rotation[None], 3, 0))
        assert found.scale == pytest.approx(1.7)
        assert found.apply(points[..., :axes]) == pytest.approx(target)


def test_similarity_never_mirrors_and_passes_gaps_on():
    points = face(2)[:, :10, :2]
    found = fit_similarity(points, points * [-1, 1])
    assert np.linalg.det(found.matrix[0]) > 0
    points[1, 3] = np.nan
    assert np.isfinite(found.matrix[0]).all()
    assert np.isnan(fit_similarity(points, points).matrix[1]).all()
    with pytest.raises(ValueError, match="cannot be brought onto"):
        fit_similarity(points, points[:, :5])


def test_cut_reads_the_right_pixels_at_every_scale():
    """A smooth picture, cut out at half and at a third of its size, has the values of the places asked for."""
    rows, columns = np.mgrid[0:96, 0:120] + 0.5
    picture = torch.from_numpy(np.stack([rows, columns, rows + columns]) % 256).to(torch.uint8)[None].float()
    for scale in (1.0, 0.5, 1 / 3):
        corners = np.array([[[20.0, 10.0], [80.0, 10.0], [20.0, 70.0]]])
        to = (corners[0] - [20, 10]) * scale
        side = round(60 * scale)
        cut = cut_aligned(picture.to(torch.uint8), fit_similarity(corners, to), side)
        places = (np.arange(side) + 0.5) / scale
        middle = slice(1, -1)
        assert cut[0, 1, middle, middle].numpy() == pytest.approx(
            np.repeat(places[None] + 20 - 0.5, side, 0)[middle, middle], abs=0.01
        )
        assert cut[0, 0, middle, middle].numpy() == pytest.approx(
            np.repeat(places[:, None] + 10 - 0.5, side, 1)[middle, middle], abs=0.01
        )


def test_landmark_distance_leaves_out_place_but_not_pose():
    real = face()
    assert eye_distance(real) == pytest.approx(100)
    assert landmark_distance(real + 7, real) == pytest.approx(0, abs=1e-9)
    assert landmark_distance(turned(real, 10), real).mean() > 0.02
    wide = real.copy()
    wide[:, :468, 0] += np.where(np.arange(468) % 2, 5, -5)
    assert landmark_distance(wide, real) == pytest.approx(0.05, rel=0.01)


def test_mouth_distance_leaves_out_pose():
    """Turning, moving and scaling the head change nothing; opening the mouth by d gives d."""
    real = face()
    assert mouth_distance(turned(real, 20, 1.3, 40), real) == pytest.approx(0, abs=1e-9)
    opened = real.copy()
    opened[:, list(MOUTH), 1] += 10
    assert mouth_distance(opened, real) == pytest.approx(0.1)
    assert mouth_distance(turned(opened, 20, 1.3, 40), real) == pytest.approx(0.1)


def test_keypoint_distance_is_stated_at_256_pixels():
    real = face()
    assert keypoint_distance(real + np.array([3, 4, 9]), real, 512, 512) == pytest.approx(2.5)
    assert keypoint_distance(real + np.array([3, 4, 9]), real, 128, 256) == pytest.approx(10)


def test_frames_without_a_face_are_counted_and_left_out():
    real, generated = face(), face() + 1.0
    generated[4:7] = np.nan
    for metric, arguments in ((LMD(), ()), (MouthLMD(), ()), (AKD(), (256, 256))):
        metric.update(generated, real, *arguments)
        assert int(metric.faceless) == 3
        value = float(metric.compute())
        metric.update(np.full_like(real, np.nan), real, *arguments)  # no face at all: no clip
        assert float(metric.compute()) == value
        assert int(metric.faceless) == 33
    with pytest.raises(ValueError, match="against"):
        LMD().update(real[:5], real)


def test_clips_count_alike_whatever_their_length():
    metric = AKD()
    metric.update(face(10) + np.array([1, 0, 0]), face(10), 256, 256)
    metric.update(face(90) + np.array([3, 0, 0]), face(90), 256, 256)
    assert float(metric.compute()) == pytest.approx(2)


def test_jitter_of_a_training_is_that_of_the_landmarks(monkeypatch):
    """Where landmarks are found, in eye distances; a head that holds its rotation trembles, too."""
    landmarks = np.random.default_rng(0).uniform(0.3, 0.7, (1, 478, 3)).repeat(60, axis=0).astype(np.float32)
    landmarks[..., 0] += 0.01 * np.sin(2 * np.pi * 8 * np.arange(60) / 25)[:, None]
    still = np.zeros((60, 3), np.float32)
    seen = FaceMeasurements(
        np.ones(60, bool),
        landmarks,
        np.zeros((60, 52), np.float32),
        ("eyeBlinkLeft", *"a" * 51),
        still,
        still,
    )
    monkeypatch.setattr(landmark_judge, "measure_landmarks", lambda frames, mode: seen)
    measure = MotionOfClips(lambda: object.__new__(landmark_judge.LandmarkJudge))  # without its model file
    measure.load()
    frames = torch.zeros(60, 3, 20, 40, dtype=torch.uint8)
    measure.update(frames, frames)
    found = measure.compute()
    assert found["jitter"] == pytest.approx(rigid_jitter(to_pixels(seen, 20, 40)))
    assert found["jitter"] > 0.001
    assert found["head_motion"] == 0


def test_rigid_jitter_hears_trembling_over_the_floor():
    still = face(100)
    shake = np.sin(2 * np.pi * 9 * np.arange(100) / 25)[:, None, None] * np.sqrt(2)
    trembling = still.copy()
    trembling[:, list(RIGID)] += 2 * shake
    assert rigid_jitter(still) == pytest.approx(0, abs=1e-9)
    assert rigid_jitter(trembling) == pytest.approx(0.02, rel=0.05)
    assert rigid_jitter(trembling, floor=0.01) == pytest.approx(np.sqrt(0.02**2 - 0.01**2), rel=0.08)
    assert rigid_jitter(still, floor=0.01) == 0
    assert np.isnan(rigid_jitter(np.full_like(still, np.nan)))
