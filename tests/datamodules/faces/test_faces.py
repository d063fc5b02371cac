"""Finding faces, the crop rule, cutting out and putting back, measured landmarks."""

import logging
import time

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UserError
from datamodules.faces import finding, framing, landmarks
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import SquareCrop
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
    return FaceBox(x0, y0, x1, y1, 1.0, "mediapipe")


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
    np.testing.assert_allclose(found[:4], LANDMARK_BOXES[name], atol=2)
    assert found.source == "mediapipe"


@pytest.mark.parametrize("name", ANIMALS)
def test_animals_have_none(model, name):
    path = model / "data" / "portraits" / name
    with pytest.raises(UserError, match=f"{name}: no face found"):
        finding.require_face(read_image(path), path)


def test_a_small_face_is_warned_about(model, caplog):
    for name, warned in (("low_res_240p.jpg", True), ("official_portrait.jpg", False)):
        caplog.clear()
        finding.require_face(read_image(model / "data" / "portraits" / name), name)
        assert any("67 pixels" in message for message in caplog.messages) is warned


@pytest.mark.parametrize("name", LANDMARK_BOXES)
def test_cascade_frames_portraits_nearly_as_the_landmarker(shared, no_model, name):
    found = finding.select_face(finding.find_faces(read_image(shared / "data" / "portraits" / name)))
    assert found.source == "cascade"
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


def test_the_landmarker_starts_quietly(model, capfd):
    finding.find_faces(texture(64, 64))
    assert capfd.readouterr().err == ""


def test_largest_face_is_taken_and_of_equal_ones_the_leftmost():
    small, left, right = box(0, 0, 50, 50), box(100, 0, 200, 101), box(300, 0, 400, 103)
    assert finding.select_face([small, right, left]) == left
    assert finding.select_face([right, small]) == right
    assert finding.select_face([left, box(300, 0, 400, 120)]).x0 == 300


@pytest.mark.parametrize("face", [box(100, 50, 162, 100), box(10, 20, 40, 82)])
def test_framing_places_the_landmark_box(face):
    crop = framing.framing(face)
    assert max(face.x1 - face.x0, face.y1 - face.y0) / crop.side == pytest.approx(0.62)
    assert ((face.x0 + face.x1) / 2 - crop.x) / crop.side == pytest.approx(0.5)
    assert ((face.y0 + face.y1) / 2 - crop.y) / crop.side == pytest.approx(0.57)


def test_framing_is_that_of_hdtf(shared):
    crop = framing.framing(box(*LANDMARK_BOXES["hdtf_wda_bencardin.png"]))
    assert crop.side == pytest.approx(256, rel=0.1)
    assert abs(crop.x) < 25
    assert abs(crop.y) < 25


def test_whole_pixels_are_cut_exactly():
    image = texture(60, 80)
    np.testing.assert_array_equal(framing.crop_square(image, SquareCrop(13, 7, 32), 32), image[7:39, 13:45])


def test_crop_follows_fractions_of_a_pixel():
    x = np.arange(80, dtype=float)
    image = np.repeat(np.repeat(2 * x[None, :, None], 60, 0), 3, 2).astype(np.uint8)
    cut = framing.crop_square(image, SquareCrop(20.25, 10, 32), 64).astype(float)
    ramp = 2 * (20.25 + (np.arange(64) + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(cut[:, :, 0], np.tile(ramp, (64, 1)), atol=1)


def test_shrinking_does_not_alias():
    checkers = np.repeat(((np.indices((256, 256)).sum(0) % 2) * 255).astype(np.uint8)[..., None], 3, 2)
    small = framing.crop_square(checkers, SquareCrop(0, 0, 256), 32)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_a_square_beyond_the_picture_continues_its_edge():
    image = texture(60, 60)
    cut = framing.crop_square(image, SquareCrop(-20, -20, 100), 100)
    np.testing.assert_array_equal(cut[20:80, 20:80], image)
    assert np.abs(cut[19, 20:80].astype(int) - image[0]).mean() < 12  # no step at the edge
    roughness = [np.abs(np.diff(cut[row, 20:80].astype(int), axis=0)).mean() for row in (20, 0)]
    assert roughness[1] < 0.6 * roughness[0]  # and no streaks far from it
    far = framing.crop_square(np.full((20, 20, 3), 77, np.uint8), SquareCrop(100, 100, 30), 16)
    assert (far == 77).all()


def test_a_photo_with_a_face_at_its_edge_is_framed_quickly_and_as_when_shrunk_before():
    photo = np.array(Image.fromarray(texture(375, 500)).resize((4000, 3000), Image.Resampling.BICUBIC))
    crop = framing.framing(box(100, 300, 1500, 1900))
    assert crop.x < -300
    start = time.process_time()
    cut = framing.crop_square(photo, crop, 1024)
    assert time.process_time() - start < 4  # a minute where the blur runs over all pixels
    shrunk = np.array(Image.fromarray(photo).reduce(8))
    small = framing.crop_square(shrunk, SquareCrop(*(value / 8 for value in crop)), 1024)
    assert np.abs(cut.astype(int) - small).mean() < 2


@pytest.mark.parametrize(
    "crop", [SquareCrop(20, 10, 40), SquareCrop(20.4, 10.7, 39.3), SquareCrop(-15, -10, 70)]
)
def test_pasting_back_what_was_cut_changes_little(crop):
    image = texture(80, 100)
    pasted = framing.paste_back(framing.crop_square(image, crop, 160), image, crop)
    assert pasted.shape == image.shape
    assert np.abs(pasted.astype(int) - image).mean() < 1.5
    shifted = framing.paste_back(framing.crop_square(image, crop._replace(x=crop.x + 1), 160), image, crop)
    assert np.abs(shifted.astype(int) - image).mean() > 2 * np.abs(pasted.astype(int) - image).mean()


@pytest.mark.parametrize("size", [16, 64, 200])
def test_pasted_face_is_opaque_inside_and_fades_out(size):
    image = np.zeros((80, 100, 3), np.uint8)
    before = image.copy()
    pasted = framing.paste_back(np.full((size, size, 3), 200, np.uint8), image, SquareCrop(30, 20, 50))
    np.testing.assert_array_equal(image, before)
    assert (pasted[26:64, 36:74] == 200).all()
    assert (pasted[:20] == 0).all()
    assert (pasted[:, 80:] == 0).all()
    ramp = pasted[45, 30:36, 0].astype(int)
    assert (np.diff(ramp) >= 0).all()
    assert ramp[0] < 40
    np.testing.assert_array_equal(framing.paste_back(pasted[:50, :50], image, SquareCrop(300, 0, 50)), image)


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


def test_turning_the_picture_clockwise_adds_to_roll(model, turning):
    bicubic = Image.Resampling.BICUBIC
    turned = [np.array(Image.fromarray(frame).rotate(-15, resample=bicubic)) for frame in turning[:4]]
    before, after = (landmarks.measure_landmarks(frames).rotation for frames in (turning[:4], turned))
    np.testing.assert_allclose((after - before)[:, 2], 15, atol=2.5)


def test_known_matrices_give_their_angles():
    def turn(axis, degrees):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        i, j = [k for k in range(3) if k != axis]
        matrix = np.eye(4)
        matrix[[i, i, j, j], [i, j, i, j]] = [c, -s, s, c] if axis != 1 else [c, s, -s, c]
        return matrix

    matrix = turn(1, 20) @ turn(0, -10) @ turn(2, -5)
    np.testing.assert_allclose(landmarks.head_rotation(matrix), [20, 10, 5], atol=1e-4)


def test_both_modes_agree_and_frames_without_a_face_are_marked(model, turning):
    frames = np.concatenate([turning[:2], np.zeros_like(turning[:1]), turning[2:3]])
    by_image = landmarks.measure_landmarks(frames)
    by_video = landmarks.measure_landmarks(iter(frames), "video", fps=2)
    for measured in (by_image, by_video):
        assert measured.found.tolist() == [True, True, False, True]
        assert measured.landmarks.shape == (4, 478, 3)
        assert np.isnan(measured.landmarks[2]).all()
        assert np.isnan(measured.rotation[2]).all()
        assert measured.blendshapes.shape == (4, 52)
        assert len(measured.blendshape_names) == 52
        assert "jawOpen" in measured.blendshape_names
        assert (measured.translation[[0, 1, 3], 2] < 0).all()
    np.testing.assert_allclose(by_video.rotation[:2], by_image.rotation[:2], atol=3)
    nothing = landmarks.measure_landmarks(frames[2:3])
    assert nothing.found.tolist() == [False]
    assert nothing.blendshape_names == ()
