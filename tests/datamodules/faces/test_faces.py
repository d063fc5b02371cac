"""Finding faces and measured landmarks."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UserError
from datamodules.faces import finding, framing, landmarks
from datamodules.faces.finding import FaceBox
from datamodules.media.pictures import read_image
from datamodules.media.video import VideoReader

LANDMARK_BOXES = {  # of the larger or left face, as MediaPipe measures them
    "cartoon_boy.jpg": (208, 243, 645, 732),
    "full_length_small_face.jpg": (426, 224, 712, 566),
    "hdtf_wda_bencardin.png": (50, 58, 201, 229),
    "low_res_240p.jpg": (195, 28, 248, 94),
    "official_portrait.jpg": (375, 125, 610, 423),
    "painting_monalisa.jpg": (270, 229, 470, 454),
    "statue_terracotta.jpg": (280, 251, 441, 440),
    "two_people.jpg": (234, 43, 385, 225),
}
ANIMALS = ("animal_alpaca.jpg", "animal_dog.jpg")


@pytest.fixture
def model(shared, monkeypatch):
    """The Face Landmarker's model file is there."""
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    return shared


@pytest.fixture
def no_model(tmp_path, monkeypatch):
    """The model file is nowhere."""
    monkeypatch.setattr("datamodules.assets.search_folders", lambda: [tmp_path])
    finding._announce_cascade.cache_clear()


def box(x0, y0, x1, y1):
    return FaceBox(x0, y0, x1, y1)


def texture(height, width):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("name", LANDMARK_BOXES)
def test_portraits_have_a_face(model, name):
    path = model / "data" / "portraits" / name
    found = finding.require_face(read_image(path), path)
    np.testing.assert_allclose(found, LANDMARK_BOXES[name], atol=2)


@pytest.mark.parametrize("name", ANIMALS)
def test_animals_have_none(model, name):
    path = model / "data" / "portraits" / name
    with pytest.raises(UserError, match=f"{name}: no face found"):
        finding.require_face(read_image(path), path)


def test_messages_name_what_was_given(monkeypatch):
    monkeypatch.setattr(finding, "find_turned_faces", lambda image: [])
    for what in ("picture", "video"):
        with pytest.raises(UserError, match=f"no face found; give a {what} with a face"):
            finding.require_face(np.zeros((64, 64, 3), np.uint8), "a", what=what)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("name", LANDMARK_BOXES)
def test_sideways_and_upside_down_faces_are_refused(model, name, quarters):
    image = np.ascontiguousarray(np.rot90(read_image(model / "data" / "portraits" / name), quarters))
    with pytest.raises(
        UserError, match=f"{name}: (the face (is turned by \\d+ degrees|lies sideways)|no face found)"
    ):
        finding.require_face(image, name)


@pytest.mark.parametrize("name", LANDMARK_BOXES)
def test_faces_that_stand_on_their_head_are_told_from_upright_ones(model, name):
    """The landmarker finds one in both, mostly, and reads both as upright."""
    image = read_image(model / "data" / "portraits" / name)
    whole = framing.framing(FaceBox(*LANDMARK_BOXES[name]))
    crop = framing.crop_square(image, whole, 256)
    with landmarks.open_detector() as detector:
        assert landmarks.is_upside_down(crop[::-1, ::-1], detector)
        assert not landmarks.is_upside_down(crop, detector)


@pytest.mark.parametrize("degrees", [-60, -30, 20, 35, 60, 180])
def test_a_tilted_face_is_taken_up_to_45_degrees(model, degrees):
    upright = Image.open(model / "data" / "portraits" / "official_portrait.jpg").convert("RGB")
    image = np.array(upright.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor="gray"))
    roll = finding.settled_roll(image, max(finding.find_turned_faces(image), key=lambda one: one.box.side))
    assert (roll - degrees + 180) % 360 - 180 == pytest.approx(0, abs=8)
    if abs(degrees) > 45:
        with pytest.raises(UserError, match="turn the picture"):
            finding.require_face(image, "a.png")
    else:
        assert finding.require_face(image, "a.png").side > 250


def test_awkward_faces(model):
    folder = model / "data" / "awkward"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    with pytest.raises(UserError, match=r"is turned by 9\d degrees"):
        finding.require_face(read_image(folder / "f11_portrait_sideways.jpg"), "f11")
    reader = VideoReader(folder / "f05_sideways_face.mp4")
    for frame in reader.get(range(0, 80, 7)):
        with pytest.raises(UserError, match="turn the picture"):
            finding.require_face(frame, "f05")


@pytest.mark.parametrize(
    ("which", "place"), [("left", 1), ("right", 2), ("1", 1), ("2", 2), ("largest", 1), ("3", None)]
)
def test_one_of_several_faces_is_chosen_and_told(model, caplog, which, place):
    image = read_image(model / "data" / "portraits" / "two_people.jpg")
    with caplog.at_level(logging.INFO):
        if place is None:
            with pytest.raises(UserError, match=r"a\.jpg: no face 3 among 2"):
                finding.require_face(image, "a.jpg", which)
            return
        found = finding.require_face(image, "a.jpg", which)
    assert (found.x0 > image.shape[1] / 2) is (place == 2)
    assert caplog.messages == [f"a.jpg: 2 faces; number {place} from the left is taken"]


def test_a_small_face_is_warned_about(model, caplog):
    for name, warned in (("low_res_240p.jpg", True), ("official_portrait.jpg", False)):
        caplog.clear()
        finding.require_face(read_image(model / "data" / "portraits" / name), name)
        assert any("67 pixels" in message for message in caplog.messages) is warned


@pytest.mark.parametrize("name", LANDMARK_BOXES)
def test_cascade_frames_portraits_nearly_as_the_landmarker(shared, no_model, name):
    found = finding.select_face(finding.find_faces(read_image(shared / "data" / "portraits" / name)))
    assert overlap(found, LANDMARK_BOXES[name]) > 0.7
    true, fallback = framing.framing(box(*LANDMARK_BOXES[name])), framing.framing(found)
    assert fallback.side == pytest.approx(true.side, rel=0.12)


def test_cascade_is_said_aloud_once(no_model, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert finding.find_faces(texture(64, 64)) == finding.find_faces(texture(16, 200)) == []
    assert len(caplog.messages) == 1
    assert "ifmdm assets fetch face_landmarker.task" in caplog.messages[0]


def test_missing_system_libraries_are_named(model, monkeypatch):
    from mediapipe.tasks.python import vision

    def refuse(options):
        raise OSError("libEGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", refuse)
    told = r"libEGL.so.1.*apt-get install libgl1 libglib2.0-0 libegl1"
    with pytest.raises(landmarks.MissingLibraryError, match=told):
        landmarks.measure_landmarks(texture(64, 64)[None])
    finding._announce_cascade.cache_clear()
    assert finding.find_faces(texture(64, 64)) == []  # falls back


def test_a_face_is_looked_for_quietly_from_start_to_end(model):
    """In a process of its own: some notes come with the first picture, others when all is closed."""
    code = "import sys; from datamodules.faces.finding import *; require_face(read_image(sys.argv[1]), 'it')"
    code = f"from datamodules.media.pictures import read_image; {code}"
    portrait = model / "data" / "portraits" / "official_portrait.jpg"
    done = subprocess.run([sys.executable, "-c", code, portrait], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_largest_face_is_taken_and_of_equal_ones_the_leftmost():
    small, left, right = box(0, 0, 50, 50), box(100, 0, 200, 101), box(300, 0, 400, 103)
    assert finding.select_face([small, right, left]) == left
    assert finding.select_face([right, small]) == right
    assert finding.select_face([left, box(300, 0, 400, 120)]).x0 == 300


@pytest.fixture(scope="module")
def turning(shared):
    """Sixteen frames of the clip with the largest head turns."""
    reader = VideoReader(shared / "data" / "clips" / "hdtf_wda_katiehill.mp4")
    return reader.get(range(0, 200, 13))


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def test_head_rotation_has_the_signs_that_the_picture_shows(model, turning):
    measured = landmarks.measure_landmarks(turning)
    assert measured.found.all()
    yaw, pitch, roll = measured.rotation.T
    assert yaw.min() < -8
    assert yaw.max() > 8
    points = measured.landmarks[..., :2]
    eyes = (points[:, 33] + points[:, 263]) / 2  # outer corners: image left, image right
    nose, mouth = points[:, 1], (points[:, 61] + points[:, 291]) / 2
    assert correlation(yaw, nose[:, 0] - eyes[:, 0]) > 0.9  # the nose points to image right
    assert correlation(pitch, (eyes - nose)[:, 1] / (mouth - eyes)[:, 1]) > 0.9  # the nose rises to the eyes
    line = points[:, 263] - points[:, 33]
    tilt = np.degrees(np.arctan2(line[:, 1], line[:, 0]))  # y points down: clockwise
    np.testing.assert_allclose(roll, tilt, atol=1.5)


def test_mirroring_flips_yaw_and_roll_only(model, turning):
    straight = landmarks.measure_landmarks(turning).rotation
    mirrored = landmarks.measure_landmarks(turning[:, :, ::-1]).rotation
    np.testing.assert_allclose(mirrored * [-1, 1, -1], straight, atol=3)


def test_known_matrices_give_their_angles():
    def turn(axis, degrees):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        i, j = [k for k in range(3) if k != axis]
        matrix = np.eye(4)
        matrix[[i, i, j, j], [i, j, i, j]] = [c, -s, s, c] if axis != 1 else [c, s, -s, c]
        return matrix

    matrix = turn(1, 20) @ turn(0, -10) @ turn(2, -5)
    np.testing.assert_allclose(landmarks.head_rotation(matrix), [20, 10, 5], atol=1e-4)


def test_blink_is_the_mean_of_both_eyes():
    shapes = {"eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.8, "eyeLookUpLeft": 0.7, "jawOpen": 0.1}
    named = [SimpleNamespace(category_name=name, score=score) for name, score in shapes.items()]
    assert landmarks.eye_blink(named) == pytest.approx(0.5)


def test_frames_without_a_face_are_marked(model, turning):
    frames = [turning[0], turning[1], np.zeros_like(turning[0]), turning[2]]
    measured = landmarks.measure_landmarks(iter(frames))
    assert measured.found.tolist() == [True, True, False, True]
    assert measured.landmarks.shape == (4, 478, 3)
    for values in (measured.landmarks, measured.rotation, measured.blink):
        assert np.isnan(values[2]).all()
        assert np.isfinite(values[measured.found]).all()
    assert ((measured.blink >= 0) & (measured.blink <= 1))[measured.found].all()
    assert landmarks.measure_landmarks(frames[2:3]).found.tolist() == [False]
