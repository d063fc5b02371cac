import dataclasses
import json

import numpy as np
import pytest
import torch

from datamodules.batches import REGION_NAMES
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import FACE_CENTRE, FACE_SHARE, framing
from datamodules.synthetic_faces.identity import BACKGROUNDS, SHAPE_NAMES, Identity
from datamodules.synthetic_faces.mesh.landmarks import LANDMARK_NAMES, REGIONS, landmark_numbers
from datamodules.synthetic_faces.motion.controls import CONTROL_NAMES, Controls
from datamodules.synthetic_faces.paint.backgrounds import BEYOND, FINE
from datamodules.synthetic_faces.rasteriser import rasterise
from datamodules.synthetic_faces.renderer import HeadRenderer, Measures, Rendering, camera_moves, joined

PERSON = Identity(seed=5, iris_colour="#4a78a8", lip_colour="#b3263a", noise=1.0)


@pytest.fixture(scope="module")
def renderer() -> HeadRenderer:
    return HeadRenderer(PERSON, 96)


def render(renderer: HeadRenderer, *poses: dict[str, float]) -> Rendering:
    return renderer.render(Controls.of_poses(*poses))


def column(name: str) -> int:
    return LANDMARK_NAMES.index(name)


def colour_at(frame: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y = (point * frame.shape[0]).astype(int)
    return frame[y, x].astype(float)


def test_identity_survives_json_and_is_drawn_deterministically():
    person, same, other = (Identity.sample(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert Identity(**json.loads(json.dumps(dataclasses.asdict(person)))) == person
    assert same == person != other
    assert set(person.shape) == set(SHAPE_NAMES)
    assert Identity.sample(np.random.default_rng(3), "plain").noise == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"hair_style": "feathers"}, "hair_style"), ({"shape": {"tail": 1.0}}, "unknown shape")],
)
def test_identity_refuses_nonsense(wrong, message):
    with pytest.raises(ValueError, match=message):
        Identity(**wrong)


def assert_same(one: Measures, other: Measures, kind: type = Rendering) -> None:
    for name in (field.name for field in dataclasses.fields(kind)):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_same_bytes_in_any_chunks(renderer):
    rng = np.random.default_rng(0)
    clip = Controls(rng.uniform(0, 0.5, (5, len(CONTROL_NAMES))) * (rng.random((5, 1)) > 0.3))
    clip["yaw"][:], clip["gaze_x"][:] = 12 * rng.normal(size=5), 9 * rng.normal(size=5)
    for name in (name for name in CONTROL_NAMES if name.startswith("camera")):
        clip[name][:] = (0, 0, 0.02, -0.01, 0)
    again = HeadRenderer(PERSON, 96)
    assert_same(
        renderer.render(clip), joined([again.render_chunk(clip, a, b) for a, b in ((0, 1), (1, 4), (4, 5))])
    )


def test_neutral_face_is_framed_as_real_clips_are(renderer):
    truth = render(renderer, {})
    oval = truth.landmarks[0, landmark_numbers("jaw", "forehead")]
    low, high = oval.min(0), oval.max(0)
    assert (high - low).max() == pytest.approx(FACE_SHARE, abs=1e-4)
    np.testing.assert_allclose((low + high) / 2, FACE_CENTRE, atol=1e-4)
    # The crop rule leaves a synthetic picture as it is.
    crop = framing(FaceBox(*(96 * low), *(96 * high)))
    np.testing.assert_allclose(crop, (0, 0, 96), atol=0.05)
    assert truth.frames.shape == (1, 96, 96, 3)
    assert truth.frames.dtype == np.uint8
    assert 0.3 < (truth.mask > 127).mean() < 0.9


def test_every_mouth_control_does_what_its_name_says(renderer):
    jaws = ({"jaw_open": j} for j in np.linspace(0, 1, 6))
    opening = renderer.measure(Controls.of_poses(*jaws)).lip_opening
    assert opening[0] < 1e-3
    assert (np.diff(opening) > 0.01).all()
    assert 0.15 < opening[5] < 0.5
    rest, wide, narrow, rounded, parted = range(5)
    mouths = ({}, {"lips_wide": 1}, {"lips_wide": -1}, {"lips_round": 1}, {"lips_part": 1})
    jaw = {"jaw_open": 0.3}
    truth = renderer.measure(Controls.of_poses(*mouths, jaw, jaw | {"lip_tuck": 1}))
    width, opening = truth.lip_width, truth.lip_opening
    assert width[wide] > width[rest] > width[narrow] > width[rounded]
    assert opening[parted] > 0.05
    assert opening[-1] < 0.4 * opening[-2]
    lip = truth.landmarks_3d[:, column("lips_inner_2"), 2]
    assert lip[rounded] > lip[rest] + 0.04


@pytest.mark.parametrize(
    ("pose", "mark", "axis", "least"),
    [
        ({"yaw": 20}, "nose_tip", 0, 0.03), ({"pitch": 15}, "nose_tip", 1, -0.02), ({"roll": 15}, "forehead_2", 0, 0.02),
        ({"shift_x": 0.2}, "nose_tip", 0, 0.01), ({"shift_y": 0.2}, "nose_tip", 1, -0.01),
        ({"shift_z": 0.5}, "jaw_0", 0, -0.01), ({"shift_z": 0.5}, "jaw_16", 0, 0.01),
        ({"gaze_x": 20}, "left_pupil", 0, 0.001), ({"gaze_y": 15}, "left_pupil", 1, -0.001),
        ({"brow_left": 1}, "left_brow_2", 1, -0.01), ({"camera_roll": 3}, "forehead_2", 0, 0.01),
        ({"camera_roll": 3}, "jaw_8", 0, -0.01), ({"smile": 1}, "lips_inner_4", 1, -0.005),
        ({"smile": -0.5}, "lips_inner_4", 1, 0.002),
    ],
)  # fmt: skip
def test_signs(renderer, pose, mark, axis, least):
    rest, moved = renderer.measure(Controls.of_poses({}, pose)).landmarks[:, column(mark), axis]
    assert (moved - rest) / least > 1


def test_left_is_the_persons_left_and_blinks_hide_the_iris(renderer):
    truth = render(renderer, {}, {"blink_left": 1, "blink_right": 1}, {"blink_left": 1})
    left, right = column("left_pupil"), column("right_pupil")
    assert truth.landmarks[0, left, 0] > 0.5 > truth.landmarks[0, right, 0]
    assert truth.visible[0, [left, right]].all()
    assert not truth.visible[1, [left, right]].any()
    assert truth.visible[2, right]
    assert not truth.visible[2, left]

    red, _, blue = np.moveaxis(truth.frames.astype(int), -1, 0)
    for x0, y0, x1, y1 in (truth.regions[0, 1:] * 96).astype(int):
        iris = (blue > red + 15)[:, y0:y1, x0:x1].sum(axis=(1, 2))
        assert iris[0] > 4
        assert iris[1] == 0


def test_landmarks_lie_on_what_they_name(renderer):
    truth = render(renderer, {}, {"yaw": 20, "roll": -10})
    assert truth.visible[:, column("lips_inner_6")].all()
    for frame, points in zip(truth.frames, truth.landmarks, strict=True):
        lip = (points[column("lips_outer_9")] * 0.6) + points[column("lips_inner_6")] * 0.4
        skin = colour_at(frame, 0.5 * (points[column("nose_tip")] + points[column("nose_bridge_3")]))
        lips = colour_at(frame, lip)
        assert lips[0] / lips[1] > 1.4 * skin[0] / skin[1]
    turned = render(renderer, {"yaw": 35}).visible[0]
    assert not turned[column("jaw_16")]
    assert turned[column("nose_tip")]


def test_camera_moves_the_picture_alone(renderer):
    moves = ({}, {"camera_x": 0.05}, {"camera_y": 0.05}, {"camera_zoom": 0.1}, {"camera_roll": 3})
    truth = render(renderer, *moves)
    rest, right, down, near, _ = truth.landmarks.astype(float)
    np.testing.assert_allclose(right - rest, np.broadcast_to([0.05, 0], rest.shape), atol=1e-6)
    np.testing.assert_allclose(down - rest, np.broadcast_to([0, 0.05], rest.shape), atol=1e-6)
    np.testing.assert_allclose(near - 0.5, np.exp(0.1) * (rest - 0.5), atol=1e-6)
    for t in range(1, len(moves)):
        np.testing.assert_array_equal(truth.landmarks_3d[t], truth.landmarks_3d[0])
    assert truth.mask[3].mean() > truth.mask[0].mean()


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_person_and_background_move_together(background):
    renderer = HeadRenderer(Identity(seed=2, background=background), 64)
    moves = ({}, {"camera_x": 3 / 64}, {"camera_y": -2 / 64})
    still, right, up = render(renderer, *moves).frames.astype(int)
    for difference in (right[:, 3:] - still[:, :-3], up[:-2] - still[2:]):
        assert np.abs(difference).mean() < 0.1
        assert (np.abs(difference) <= 2).mean() > 0.99


def test_background_reaches_as_far_as_the_camera_moves():
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    names = ("camera_x", "camera_y", "camera_zoom", "camera_roll")
    furthest = rng.choice([-1, 1], (32, 4)) * (0.06, 0.06, 0.1, 3)
    for move in camera_moves(Controls.of_poses(*(dict(zip(names, one, strict=True)) for one in furthest))):
        seen = (corners - move[:, 2]) @ np.linalg.inv(move[:, :2]).T
        assert np.abs(seen - 0.5).max() < 0.5 + (BEYOND - 1) / FINE


def test_measures_are_those_of_the_rendering(renderer):
    clip = Controls.of_poses({}, {"yaw": 20, "jaw_open": 0.7}, {"camera_roll": 2, "smile": 1})
    assert_same(renderer.render(clip), renderer.measure(clip), Measures)
    assert len(renderer.measure(Controls.neutral(150)).landmarks) == 150


def test_wrinkles_darken_the_skin_alone():
    renderer = HeadRenderer(dataclasses.replace(PERSON, noise=0.0), 64)
    strengths = torch.tensor([[0.0, 0.0], [0.4, 0.1], [1.0, 1.0]])
    renderer.rig.wrinkle_strengths = lambda clip: strengths[: len(clip)]
    renderer._wrinkles = torch.ones(1, 2, *renderer._texture.shape[2:])
    truth = renderer.render(Controls.neutral(3))
    cheek = 0.5 * (truth.landmarks[0, column("nose_base_0")] + truth.landmarks[0, column("jaw_4")])
    plain, half, most = (colour_at(frame, cheek)[1] / 255 for frame in truth.frames)
    assert (half / plain) ** 2 == pytest.approx(0.5, abs=0.06)  # frames show the root of the light
    assert (most / plain) ** 2 == pytest.approx(0.4, abs=0.06)
    np.testing.assert_array_equal(truth.frames[0, -3:], truth.frames[2, -3:])  # clothes


def test_plain_light_turns_with_the_head():
    person = Identity(seed=4, domain="plain", key_azimuth=60.0)

    def brightness(domain: str) -> list[float]:
        drawn = render(HeadRenderer(dataclasses.replace(person, domain=domain), 96), {}, {"yaw": -20})
        brows = drawn.landmarks[:, [column("left_brow_2"), column("right_brow_2")]].mean(1)
        places = (96 * (0.7 * brows + 0.3 * drawn.landmarks[:, column("forehead_2")])).astype(int)
        spots = zip(drawn.frames, places, strict=True)
        return [frame[y - 1 : y + 2, x - 1 : x + 2].mean() for frame, (x, y) in spots]

    plain, wide = brightness("plain"), brightness("wide")
    assert plain[0] == wide[0]
    assert abs(plain[1] - plain[0]) < 0.03 * plain[0]
    assert abs(wide[1] - wide[0]) > 0.05 * wide[0]


def test_mouth_shows_no_background(renderer):
    """Nothing behind the head shines through an opened mouth or the skin next to it."""
    poses = [{"yaw": y, "pitch": p, "jaw_open": j} for y in (-18, 18) for p in (-15, 15) for j in (0.3, 1)]
    truth = render(renderer, *poses)
    for mask, (x0, y0, x1, y1) in zip(truth.mask, (truth.regions[:, 0] * 96).astype(int), strict=True):
        centre = mask[(y0 * 3 + y1) // 4 : (y0 + 3 * y1) // 4, (x0 * 2 + x1) // 3 : (x0 + 2 * x1) // 3]
        assert centre.min() == 255


@pytest.mark.parametrize("style", ["bald", "long"])
def test_extreme_people_render(style):
    shape = {name: 2.0 if i % 2 else -2.0 for i, name in enumerate(SHAPE_NAMES)}
    dressed = {"glasses_style": "round", "beard_style": "full", "clothes_style": "vneck"}
    person = Identity(seed=1, shape=shape, hair_style=style, **dressed)
    pose = {"yaw": 35, "pitch": -20, "roll": 20, "jaw_open": 1, "smile": 1}
    truth = render(HeadRenderer(person, 48), pose)
    assert np.isfinite(truth.landmarks_3d).all()
    assert truth.frames.std() > 10


def test_rasteriser_matches_brute_force():
    rng = np.random.default_rng(1)
    size, faces, frames = 16, 12, 2
    points = torch.tensor(rng.uniform(-4, size + 4, (frames, faces * 3, 2)), dtype=torch.float32)
    inverse = torch.tensor(rng.uniform(0.1, 0.4, (frames, faces * 3)), dtype=torch.float32)
    values = torch.tensor(rng.normal(size=(frames, faces * 3, 2)), dtype=torch.float32)
    corners = torch.tensor(rng.normal(size=(faces, 3, 1)), dtype=torch.float32)
    index = torch.arange(faces * 3).reshape(faces, 3)
    drawn = rasterise(points, inverse, index, values, corners, size)
    got = np.full((frames * size * size, 3), np.nan)
    got[drawn.pixel.numpy()] = drawn.values.numpy().T
    y, x = np.mgrid[:size, :size].reshape(2, -1) + 0.5
    want, nearest = np.full((frames, size * size, 3), np.nan), np.zeros((frames, size * size))
    for t, f in np.ndindex(frames, faces):
        (ax, bx, cx), (ay, by, cy) = points[t, index[f]].double().numpy().T
        if (cx - ax) * (by - ay) - (cy - ay) * (bx - ax) <= 1e-5:
            continue
        weights = np.linalg.solve([[ax, bx, cx], [ay, by, cy], [1, 1, 1]], np.stack([x, y, np.ones_like(x)]))
        weighted = weights * inverse[t, index[f]].double().numpy()[:, None]
        depth = weighted.sum(axis=0)
        wins = (weights >= 0).all(axis=0) & (depth > nearest[t])
        nearest[t, wins] = depth[wins]
        attributes = np.concatenate([values[t, index[f]].numpy(), corners[f].numpy()], axis=1)
        want[t, wins] = (weighted / depth).T[wins] @ attributes
    np.testing.assert_allclose(got, want.reshape(-1, 3), atol=2e-3, equal_nan=True)


def test_rasteriser_leaves_no_crack_and_no_overlap_choice_to_chance():
    """A fan of triangles covers its disc completely, whatever lies on pixel centres."""
    angle = np.linspace(0, 2 * np.pi, 33)[:-1]
    rim = np.stack([16 + 12 * np.cos(angle), 16 + 12 * np.sin(angle)], axis=1)
    points = torch.tensor(np.concatenate([[[16.5, 16.5]], rim]), dtype=torch.float32)[None]
    faces = torch.tensor([[0, 1 + (i + 1) % 32, 1 + i] for i in range(32)])
    flat = torch.full((1, 33), 0.2)
    drawn = rasterise(points, flat, faces, torch.zeros(1, 33, 1), torch.zeros(32, 3, 1), 32)
    covered = drawn.depth.numpy().reshape(32, 32) > 0
    y, x = np.mgrid[:32, :32] + 0.5
    assert covered[np.hypot(x - 16, y - 16) < 11.8].all()
    assert not covered[np.hypot(x - 16, y - 16) > 12].any()


def test_regions_stand_in_the_order_that_batches_promise():
    assert tuple(REGIONS) == REGION_NAMES
