"""Distances of landmarks, alignment, trembling."""

import functools

import numpy as np
import pytest
import torch

from metrics.alignment import cut_aligned, fit_similarity
from metrics.base import ClipMean
from metrics.landmarks import (
    FACE,
    eye_distance,
    face_boxes,
    keypoint_distance,
    landmark_distance,
    mouth_distance,
    rigid_jitter,
)


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
        across, down = np.meshgrid(places + 20 - 0.5, places + 10 - 0.5)
        for channel, expected in ((1, across), (0, down)):
            found = cut[0, channel, middle, middle].numpy()
            assert found == pytest.approx(expected[middle, middle], abs=0.01)


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
    opened[:, list(FACE.mouth), 1] += 10
    assert mouth_distance(opened, real) == pytest.approx(0.1)
    assert mouth_distance(turned(opened, 20, 1.3, 40), real) == pytest.approx(0.1)


def test_keypoint_distance_is_stated_at_256_pixels():
    real = face()
    assert keypoint_distance(real + np.array([3, 4, 9]), real, 512, 512) == pytest.approx(2.5)
    assert keypoint_distance(real + np.array([3, 4, 9]), real, 128, 256) == pytest.approx(10)


def test_frames_without_a_face_are_left_out_and_clips_count_alike():
    real, generated = face(), face() + 1.0
    generated[4:7] = np.nan
    keypoints = functools.partial(keypoint_distance, height=256, width=256)
    for function in (landmark_distance, mouth_distance, keypoints):
        metric = ClipMean(function)
        metric.update(generated, real)
        value = float(metric.compute())
        metric.update(np.full_like(real, np.nan), real)  # no face at all: no clip
        assert float(metric.compute()) == value
        for wrong in (real[:1], real[:, :68], real[..., :2], real[0], torch.from_numpy(real)):
            for pair in ((real, wrong), (wrong, real)):
                with pytest.raises(ValueError, match=r"must be|against"):
                    metric.update(*pair)
        assert float(metric.compute()) == value
    metric = ClipMean(keypoint_distance)
    metric.update(face(10) + np.array([1, 0, 0]), face(10), 256, 256)
    metric.update(face(90) + np.array([3, 0, 0]), face(90), 256, 256)
    assert float(metric.compute()) == pytest.approx(2)
    with pytest.raises(ValueError, match="pixels"):
        metric.update(real, real, 256, 0)


def test_boxes_hold_the_mesh_alone():
    points = face(2)
    points[:, 468:] += 500
    points[1] = np.nan
    boxes = face_boxes(points)
    assert boxes[0] == pytest.approx([*points[0, :468, :2].min(axis=0), *points[0, :468, :2].max(axis=0)])
    assert np.isnan(boxes[1]).all()


def test_rigid_jitter_is_trembling_over_the_floor():
    still = face(100)
    shake = np.sin(2 * np.pi * 9 * np.arange(100) / 25)[:, None, None] * np.sqrt(2)
    trembling = still.copy()
    trembling[:, list(FACE.rigid)] += 2 * shake
    assert rigid_jitter(still) == pytest.approx(0, abs=1e-9)
    assert rigid_jitter(trembling) == pytest.approx(0.02, rel=0.05)
    assert rigid_jitter(trembling, floor=0.01) == pytest.approx(np.sqrt(0.02**2 - 0.01**2), rel=0.08)
    assert rigid_jitter(still, floor=0.01) == 0
    assert np.isnan(rigid_jitter(np.full_like(still, np.nan)))
