"""The crop rule for a picture and for a clip; cutting out and putting back."""

import time

import numpy as np
import pytest
from PIL import Image

from datamodules.faces import framing
from datamodules.faces.framing import SquareCrop
from tests.datamodules.faces.test_faces import LANDMARK_BOXES, box, texture


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


def test_of_a_pasted_face_what_its_cover_says_is_taken():
    image = texture(80, 100)
    face, cover = np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64), np.float32)
    crop = SquareCrop(30, 10, 64)
    np.testing.assert_array_equal(framing.paste_back(face, image, crop, cover), image)
    cover[:, :32] = 1
    pasted = framing.paste_back(face, image, crop, cover)
    assert (pasted[16:68, 36:61] == 200).all()
    np.testing.assert_array_equal(pasted[:, 63:], image[:, 63:])
    np.testing.assert_array_equal(
        framing.paste_back(face, image, crop, np.ones((64, 64), np.float32)),
        framing.paste_back(face, image, crop),
    )


def boxes(x: np.ndarray, y: np.ndarray, side: float = 100.0) -> np.ndarray:
    return np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], axis=1)


def test_a_still_head_is_framed_as_a_portrait() -> None:
    still = boxes(np.full(50, 400.0), np.full(50, 300.0))
    assert framing.clip_framing(still, 720, 1280) == pytest.approx(framing.framing(box(350, 250, 450, 350)))


def test_a_moving_head_stays_inside_with_margin() -> None:
    times = np.linspace(0, 2 * np.pi, 100)
    moving = boxes(400 + 50 * np.sin(times), 300 + 30 * np.cos(2 * times))
    crop = framing.clip_framing(moving, 720, 1280)
    assert crop is not None
    still = framing.framing(box(350, 250, 450, 350))
    assert still.side < crop.side <= 1.5 * still.side
    margin = 0.04 * crop.side
    assert (moving[:, :2] > np.array([crop.x, crop.y]) + margin).all()
    assert (moving[:, 2:] < np.array([crop.x, crop.y]) + crop.side - margin).all()


def test_a_head_that_wanders_through_the_picture_has_no_crop() -> None:
    assert framing.clip_framing(boxes(np.linspace(100, 700, 100), np.full(100, 300.0)), 720, 1280) is None


def test_a_square_that_looks_out_of_the_picture_is_nudged_in_a_little() -> None:
    near = boxes(np.full(10, 75.0), np.full(10, 300.0))
    far = boxes(np.full(10, 50.0), np.full(10, 300.0))
    side = framing.framing(box(0, 0, 100, 100)).side
    assert framing.clip_framing(near, 720, 1280).x == pytest.approx(0.0)
    assert framing.clip_framing(far, 720, 1280).x == pytest.approx(50 - side / 2 + 0.15 * side)
    low = framing.clip_framing(boxes(np.full(10, 400.0), np.full(10, 668.0)), 720, 1280)
    assert low.y + low.side == pytest.approx(668 + 50 + 0.03 * side)  # the chin stays inside, by the margin


@pytest.mark.parametrize(("edge", "whole"), [(150, True), (135, True), (120, False)])
def test_a_video_that_was_cropped_before_is_taken_as_a_whole(edge: int, whole: bool) -> None:
    """VoxCeleb's faces take two thirds of the picture; a square that showed more would show nothing there."""
    middle = boxes(np.full(10, edge / 2 + 6.0), np.full(10, edge / 2))
    crop = framing.clip_framing(middle, edge, edge)
    assert (framing.outside_share(crop, edge, edge) < 1e-9) == whole
    assert crop.side >= 0.8 * 100 / 0.62
    if whole:
        assert crop == pytest.approx((0, 0, edge))
