import numpy as np
import pytest
import torch

from datamodules.synthetic_faces.identity import HAIR_STYLES, HEADWEAR_STYLES, Identity
from datamodules.synthetic_faces.mesh.fields import FEATURES
from datamodules.synthetic_faces.mesh.geometry import Part
from datamodules.synthetic_faces.mesh.landmarks import landmark_vertices, lip_measures
from datamodules.synthetic_faces.mesh.rig import Rig
from datamodules.synthetic_faces.motion.controls import CONTROL_NAMES, Controls
from datamodules.synthetic_faces.paint.painting import Atlas

PERSON = Identity(seed=5, hair_style="long")
CPU = torch.device("cpu")
POSE = ("yaw", "pitch", "roll", "shift_x", "shift_y", "shift_z")
MOVING = [name for name in CONTROL_NAMES if name not in POSE and not name.startswith("camera")]
DEGREES = ("gaze_x", "gaze_y", "vergence", "shoulder_roll", "shoulder_yaw")
SWINGING = ("jowl_x", "jowl_y", "hair_x", "hair_y", "hair_z", "hair_twist", "shoulder_x", "shoulder_y")
MOUTH = MOVING[MOVING.index("jaw_open") : MOVING.index("blink_left")]
SIGNED = (
    "breath", "jaw_forward", "jaw_side", "lips_wide", "lip_roll_upper", "lip_roll_lower", "smile_skew", "tongue_side",
    "brow_left", "brow_right", "nostril_flare", "scalp", "jowl_x", "jowl_y", "hair_x", "hair_y", "hair_z", "hair_twist",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(PERSON, CPU)


def posed(rig: Rig, *frames: dict[str, float]) -> np.ndarray:
    clip = Controls.of_poses(*frames)
    return rig.pose(rig.shape(clip), clip).numpy()


def strength(name: str) -> float:
    return 10.0 if name in DEGREES else 0.1 if name in SWINGING else 1.0


def part_of(rig: Rig, name: str) -> Part:
    return next(part for part in rig.parts if part.name == name)


def lip_opening(rig: Rig, clip: Controls) -> np.ndarray:
    return lip_measures(rig.shape(clip)[:, landmark_vertices(rig)])[0].numpy()


@pytest.mark.parametrize("name", MOVING)
def test_every_control_moves_something_and_nothing_far(rig, name):
    context = {"smile_skew": {"smile": 0.5}, "lips_press": {"jaw_open": 0.5}}.get(name, {})
    for sign in (1, -1) if name in SIGNED else (1,):
        rest, moved = posed(rig, context, context | {name: sign * strength(name)})
        way = np.linalg.norm(moved - rest, axis=1)
        assert np.isfinite(moved).all()
        assert 0.008 < way.max() < 0.35


def test_no_control_moves_what_it_has_no_business_with(rig):
    """Face controls leave the back of the head alone, and mouth controls the eyes."""
    rest = posed(rig, {})[0]
    skin = rig.skin.part.vertices
    back = np.flatnonzero(skin[:, 2] < -0.25)
    eyes = np.flatnonzero((skin[:, 1] > 0.25) & (skin[:, 1] < 0.6))
    for name in MOVING:
        moved = posed(rig, {name: strength(name)})[0]
        if not name.startswith(("shoulder", "hair", "neck", "swallow", "jaw", "breath")):
            np.testing.assert_allclose(moved[back], rest[back], atol=2e-3, err_msg=name)
        if name in MOUTH:
            np.testing.assert_allclose(moved[eyes], rest[eyes], atol=2e-3, err_msg=name)


def test_left_and_right_are_mirror_images(rig):
    index = rig.skin.index
    twin = np.zeros(index.max() + 1, dtype=int)
    twin[index] = index[:, ::-1]
    mirror = np.array([-1.0, 1.0, 1.0])
    lefts = [n for n in CONTROL_NAMES if n.endswith("_left")]
    assert len(lefts) > 10
    poses = [({name: 1}, {name.replace("_left", "_right"): 1}) for name in lefts]
    poses += [({"smile": 0.5, n: 0.1}, {"smile": 0.5, n: -0.1}) for n in ("jaw_side", "smile_skew", "jowl_x")]
    for pose in poses:
        left, right = posed(rig, *pose)[:, : len(twin)]
        np.testing.assert_allclose(left, right[twin] * mirror, atol=2e-5, err_msg=str(pose))


def test_left_is_image_right(rig):
    rest = posed(rig, {})[0]
    for name in ("cheek_puff_left", "brow_left", "dimple_left", "upper_lip_left", "shoulder_left"):
        moved = posed(rig, {name: 1})[0]
        way = np.linalg.norm(moved - rest, axis=1)
        assert (way * rest[:, 0]).sum() > 0.8 * (way * np.abs(rest[:, 0])).sum(), name
    assert (posed(rig, {"jaw_side": 1})[0] - rest)[:, 0].max() > 0.03


def test_displacement_is_continuous(rig):
    rng = np.random.default_rng(0)
    for _ in range(6):
        ends = [{n: rng.uniform(-1 if n in SIGNED else 0, 1) * strength(n) for n in MOVING} for _ in range(2)]
        clip = Controls(np.linspace(*Controls.of_poses(*ends).values, 201))
        assert np.abs(np.diff(rig.shape(clip).numpy(), axis=0)).max() < 0.006


def gaps(rig: Rig, clip: Controls, columns: np.ndarray, rows: tuple[int, int]) -> np.ndarray:
    """How far the upper edge of an opening lies above the lower one."""
    p = rig.shape(clip).numpy()
    upper, lower = (p[:, rig.skin.index[row, columns], 1] for row in rows)
    return upper - lower


def test_lips_never_cross_and_pressed_ones_are_closed(rig):
    rng = np.random.default_rng(2)
    clip = Controls.of_poses(
        *({n: rng.uniform(-1 if n in SIGNED else 0, 1) for n in MOUTH} for _ in range(200))
    )
    clip["lips_press"][:] = np.arange(200) % 2
    assert lip_opening(rig, clip)[1::2].max() < 1e-3
    assert gaps(rig, clip, rig.skin.mouth_columns, rig.skin.mouth_rows).min() > -1e-5


@pytest.mark.parametrize("name", [n for n in MOUTH if n not in ("jaw_open", "lips_part", "lip_tuck")])
def test_closed_lips_stay_closed_until_something_opens_them(rig, name):
    closed, opened = lip_opening(rig, Controls.of_poses({}, {name: 1}))
    assert closed < 1e-3
    assert opened > 0.02 if name.startswith(("upper_lip", "lower_lip")) else opened < 2e-3


def test_lids_never_cross(rig):
    rng = np.random.default_rng(4)
    lids = ("blink_left", "squint_left", "lid_wide_left", "cheek_raise_left", "smile")
    draws = [{"gaze_y": rng.uniform(-25, 25)} | {n: rng.random() for n in lids} for _ in range(100)]
    clip = Controls.of_poses(*draws)
    assert gaps(rig, clip, rig.skin.eye_columns[1], rig.skin.eye_rows).min() > -2e-3


def test_hair_swings_more_the_lower_it_hangs(rig):
    rest, moved = posed(rig, {}, {"hair_x": 0.1})
    strands = slice(rig.first["hair"], rig.first["hair"] + len(part_of(rig, "hair").vertices))
    way, height = (moved - rest)[strands, 0], rest[strands, 1]
    low, middle = height < -1.3, np.abs(height + 0.6) < 0.1
    assert way[low].min() > 2 * way[middle].mean() > 0
    cropped = Rig(Identity(hair_style="short"), CPU)
    rest, moved = posed(cropped, {}, {"hair_x": 0.1})
    assert 0.002 < np.abs(moved - rest).max() < 0.02


def test_no_feature_has_two_fields():
    assert len(set(FEATURES)) == len(FEATURES)


def test_wrinkles_follow_their_muscles_and_lie_on_the_skin(rig):
    squint, brows = {"squint_left": 1, "squint_right": 1}, {"brow_left": 1, "brow_right": 1}
    clip = Controls.of_poses({}, brows, {"brow_knit": 1}, {"smile": 1}, squint)
    depth = rig.wrinkle_strengths(clip)
    assert depth[0].abs().max() == 0 <= depth.min() <= depth.max() <= 1
    assert depth[1:].argmax(dim=1).tolist() == [0, 1, 2, 3]
    young, old = (Atlas(Identity(age=age), rig, 64, CPU) for age in (0.0, 1.0))
    assert (old.wrinkles.amax(dim=(0, 2, 3)) > young.wrinkles.amax(dim=(0, 2, 3))).all()
    assert 0.1 < young.wrinkles.max() < old.wrinkles.max() <= 0.45
    assert young.wrinkles[..., -40:, :].max() == 0


@pytest.mark.parametrize("headwear", HEADWEAR_STYLES)
@pytest.mark.parametrize("hair", HAIR_STYLES)
def test_nothing_sticks_out_of_headwear(hair, headwear):
    made = Rig(Identity(hair_style=hair, headwear=headwear), CPU)
    names = {p.name for p in made.parts}
    assert ("headwear" in names) == (headwear != "none")
    assert ("visor" in names) == (headwear == "cap")
    if headwear == "none" or hair == "bald":
        return
    hat, strands = part_of(made, "headwear").vertices, part_of(made, "hair").vertices
    above = strands[strands[:, 1] > 0.75]
    reach, grown = np.linalg.norm(hat, axis=1), np.linalg.norm(above, axis=1)
    nearest = (above @ hat.T / reach).argmax(axis=1)  # by direction
    assert (reach[nearest] > grown - 0.01).all()


def test_sampled_people_build():
    people = [Identity.sample(np.random.default_rng(seed)) for seed in range(40)]
    assert len({person.headwear for person in people}) > 1
    for person in people:
        assert torch.isfinite(Rig(person, CPU).shape(Controls.neutral(1))).all()
