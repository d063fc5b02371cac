import dataclasses

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, map_coordinates
from scipy.spatial import Delaunay

from datamodules.synthetic_faces.dense_truth import dense_truth
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.landmarks import LANDMARK_NAMES, landmark_numbers
from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.renderer import CAMERA_DISTANCE, HeadRenderer, camera_moves

SIZE = 96
TURNING = (
    {"jaw_open": 0.1},
    {"yaw": -12, "pitch": 3, "roll": 3, "jaw_open": 0.5, "lips_wide": 0.4},
    {"yaw": 12, "pitch": -5, "jaw_open": 0.2, "lips_round": 0.6},
)


@pytest.fixture(scope="module")
def renderer() -> HeadRenderer:
    return HeadRenderer(Identity(seed=5), SIZE)


def centres(size: int) -> np.ndarray:
    """``(S, S, 2)`` x and y of the pixels' centres."""
    y, x = np.mgrid[:size, :size] + 0.5
    return np.stack([x, y], axis=-1)


def warped(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """``frame (S, S, 3)`` taken with bilinear weights at ``p + flow``."""
    x, y = np.moveaxis(centres(len(frame)) + flow - 0.5, -1, 0)
    planes = [map_coordinates(frame[..., i].astype(float), [y, x], order=1, mode="nearest") for i in range(3)]
    return np.stack(planes, axis=-1)


def warp_psnr(person: Identity, size: int) -> float:
    """Worst PSNR in dB over turned frames of the face's seen pixels, away from the edges of what is seen."""
    renderer = HeadRenderer(person, size)
    clip = Controls.of_poses(*TURNING)
    drawn, truth = renderer.render(clip), dense_truth(renderer, clip)
    oval = landmark_numbers("jaw", "forehead")
    result = []
    for t in range(1, len(clip)):
        face = Delaunay(size * drawn.landmarks[t, oval]).find_simplex(centres(size)) >= 0
        inner = binary_erosion(truth.seen[t] & truth.mask[t] & face, iterations=2)
        assert inner.mean() > 0.1
        error = warped(drawn.frames[0], truth.flow[t])[inner] - drawn.frames[t][inner]
        result.append(10 * np.log10(255**2 / np.mean(error**2)))
    return min(result)


def test_first_frame_leads_to_itself(renderer):
    clip = Controls.of_poses({"yaw": 8, "jaw_open": 0.5, "camera_roll": 2})
    truth, rendering = dense_truth(renderer, clip), renderer.render(clip)
    assert np.abs(truth.flow).max() < 1e-3
    assert truth.seen.mean() > 0.999
    assert (truth.mask == (rendering.mask > 127)).mean() > 0.99
    assert (truth.depth[~truth.mask] == 0).all()
    nose = LANDMARK_NAMES.index("nose_tip")
    x, y = (rendering.landmarks[0, nose] * SIZE).astype(int)
    distance = CAMERA_DISTANCE - rendering.landmarks_3d[0, nose, 2]
    assert truth.depth[0, y, x] == pytest.approx(distance, abs=0.02)
    assert truth.depth[truth.mask].min() > CAMERA_DISTANCE - 2


@pytest.mark.parametrize(
    "move", [{"camera_x": 0.05}, {"camera_y": -0.04}, {"camera_zoom": 0.1}, {"camera_roll": 3}]
)
def test_flow_of_the_camera_is_the_inverse_of_its_move(renderer, move):
    clip = Controls.of_poses({"camera_x": 0.01, "camera_roll": -1}, move)
    truth = dense_truth(renderer, clip)
    first, moved = camera_moves(clip)
    still = (centres(SIZE) / SIZE - moved[:, 2]) @ np.linalg.inv(moved[:, :2]).T
    flow = SIZE * (still @ first[:, :2].T + first[:, 2]) - centres(SIZE)
    assert np.abs(flow).max() > 2
    np.testing.assert_allclose(truth.flow[1], flow, atol=2e-3)
    target = centres(SIZE) + flow
    inside = ((target > 0) & (target < SIZE)).all(-1)
    assert not truth.seen[1][~inside].any()
    assert truth.seen[1][inside].mean() > 0.99


def test_flow_of_a_head_that_shifts(renderer):
    truth = dense_truth(renderer, Controls.of_poses({}, {"shift_x": 0.2, "shift_y": -0.1}))
    face = truth.mask[1].copy()
    face[SIZE * 6 // 10 :] = False  # the neck bends
    depth = truth.depth[1].astype(float)[face]
    scale = SIZE * renderer._scale
    np.testing.assert_allclose(truth.flow[1][face, 0], -0.2 * scale / depth, atol=0.01)
    np.testing.assert_allclose(truth.flow[1][face, 1], -0.1 * scale / depth, atol=0.01)
    assert (truth.flow[1][~truth.mask[1]] == 0).all()


def test_flow_leads_landmarks_home():
    size = 256
    renderer = HeadRenderer(Identity(seed=5), size)
    clip = Controls.of_poses(
        {}, {"yaw": 12, "jaw_open": 0.6, "smile": 0.7, "camera_zoom": 0.05}, {"yaw": -9, "roll": 9}
    )
    truth, rendering = dense_truth(renderer, clip), renderer.render(clip)
    points = rendering.landmarks * size
    for t in (1, 2):
        distances = []
        for mark in np.flatnonzero(rendering.visible[t]):
            x, y = points[t, mark] - 0.5
            cell = truth.flow[t, int(y) : int(y) + 2, int(x) : int(x) + 2]
            if np.ptp(cell, axis=(0, 1)).max() < 0.4:  # no edge of a surface runs between the pixels
                flow = [map_coordinates(truth.flow[t, ..., i], [[y], [x]], order=1)[0] for i in range(2)]
                distances.append(np.hypot(*(points[t, mark] + flow - points[0, mark])))
        assert len(distances) > 20
        assert np.median(distances) < 0.04
        assert max(distances) < 0.25  # where the flow bends between the pixels


def test_what_the_first_frame_hides_is_not_seen(renderer):
    clip = Controls.of_poses({}, {"yaw": 25}, {"jaw_open": 1})
    truth, rendering = dense_truth(renderer, clip), renderer.render(clip)
    background = ~truth.mask[1:]
    free = np.broadcast_to(~truth.mask[0], background.shape)[background]
    assert (truth.seen[1:][background] == free).mean() > 0.99
    side = truth.mask[1] & ~truth.seen[1]
    assert 0.005 < side.mean() < 0.2
    assert np.argwhere(side)[:, 1].mean() < SIZE / 2 - 5  # the side of the head that turned into view
    lips = [LANDMARK_NAMES.index(f"lips_inner_{i}") for i in (2, 6)]
    x, y = (rendering.landmarks[2, lips].mean(0) * SIZE).astype(int)
    assert not truth.seen[2, y - 1 : y + 2, x - 1 : x + 2].any()


def test_same_bytes_in_any_stretches(renderer):
    poses = ({}, {"yaw": 9, "camera_x": 0.02}, {"jaw_open": 1}, {"blink_left": 1})
    whole = dense_truth(renderer, Controls.of_poses(*poses * 5))
    few = dense_truth(renderer, Controls.of_poses(poses[0], *poses[2:]))
    assert len(whole.mask) > 16  # in two stretches
    for name, one in vars(whole).items():
        np.testing.assert_array_equal(one[[0, 2, 3]], getattr(few, name), err_msg=name)
        np.testing.assert_array_equal(one[16:], one[:4], err_msg=name)


@pytest.mark.parametrize(("size", "seed"), [(128, 0), (128, 1), (128, 2), (256, 3)])
def test_plain_people_are_their_first_frame_warped(size, seed):
    """The shading of the plain domain is fixed to the surface."""
    person = Identity.sample(np.random.default_rng(seed), "plain")
    assert warp_psnr(person, size) >= 30


def test_wide_light_stays_in_the_room():
    person = Identity.sample(np.random.default_rng(1), "plain")
    room = dataclasses.replace(person, domain="wide")
    assert warp_psnr(room, 96) < warp_psnr(person, 96) - 3


def test_surface_points_move_as_the_dense_flow_says_and_are_seen_where_it_is(renderer):
    clip = Controls.of_poses(*TURNING)
    truth, drawn = dense_truth(renderer, clip), renderer.render(clip)
    points = drawn.surface.astype(float)
    for t in range(1, len(clip)):
        assert 0.2 < drawn.surface_visible[t].mean() < 0.8  # the back of the head is hidden
        seen = np.flatnonzero(drawn.surface_visible[t])
        x, y = (points[t, seen] * SIZE).astype(int).T
        led = points[t, seen] * SIZE + truth.flow[t, y, x]
        error = np.linalg.norm(led - points[0, seen] * SIZE, axis=-1)
        assert np.median(error) < 0.15  # pixels; beside an edge the pixel shows something else
        assert np.mean(error < 1) > 0.8
        both = drawn.surface_visible[0, seen]
        assert np.mean(both == truth.seen[t, y, x]) > 0.85
    person = drawn.person.astype(float) / 255
    assert person.shape == (len(clip), 64, 64)
    assert np.abs(person.mean(axis=(1, 2)) - truth.mask.mean(axis=(1, 2))).max() < 0.01
