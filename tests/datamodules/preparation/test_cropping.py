"""One square for a clip: it frames a still head as a portrait, holds a moving one, and gives up in time."""

import numpy as np
import pytest

from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import framing, outside_share
from datamodules.preparation.cropping import clip_crop
from datamodules.preparation.quality import loudness, sharpness


def boxes(x: np.ndarray, y: np.ndarray, side: float = 100.0) -> np.ndarray:
    return np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], axis=1)


def test_a_still_head_is_framed_as_a_portrait() -> None:
    still = boxes(np.full(50, 400.0), np.full(50, 300.0))
    assert clip_crop(still, 720, 1280) == pytest.approx(
        framing(FaceBox(350, 250, 450, 350, 1.0, "mediapipe"))
    )


def test_a_moving_head_stays_inside_with_margin() -> None:
    times = np.linspace(0, 2 * np.pi, 100)
    moving = boxes(400 + 50 * np.sin(times), 300 + 30 * np.cos(2 * times))
    crop = clip_crop(moving, 720, 1280)
    assert crop is not None
    still = framing(FaceBox(350, 250, 450, 350, 1.0, "mediapipe"))
    assert still.side < crop.side <= 1.5 * still.side
    margin = 0.04 * crop.side
    assert (moving[:, :2] > np.array([crop.x, crop.y]) + margin).all()
    assert (moving[:, 2:] < np.array([crop.x, crop.y]) + crop.side - margin).all()


def test_a_head_that_wanders_through_the_picture_has_no_crop() -> None:
    assert clip_crop(boxes(np.linspace(100, 700, 100), np.full(100, 300.0)), 720, 1280) is None


def test_a_square_that_looks_out_of_the_picture_is_nudged_in_a_little() -> None:
    near = boxes(np.full(10, 75.0), np.full(10, 300.0))
    far = boxes(np.full(10, 50.0), np.full(10, 300.0))
    side = framing(FaceBox(0, 0, 100, 100, 1.0, "mediapipe")).side
    assert clip_crop(near, 720, 1280).x == pytest.approx(0.0)
    assert clip_crop(far, 720, 1280).x == pytest.approx(50 - side / 2 + 0.15 * side)
    low = clip_crop(boxes(np.full(10, 400.0), np.full(10, 668.0)), 720, 1280)
    assert low.y + low.side == pytest.approx(668 + 50 + 0.03 * side)  # the chin stays inside, by the margin


@pytest.mark.parametrize(("edge", "whole"), [(150, True), (135, True), (120, False)])
def test_a_video_that_was_cropped_before_is_taken_as_a_whole(edge: int, whole: bool) -> None:
    """VoxCeleb's faces take two thirds of the picture; a square that showed more would show nothing there."""
    middle = boxes(np.full(10, edge / 2 + 6.0), np.full(10, edge / 2))
    crop = clip_crop(middle, edge, edge)
    assert (outside_share(crop, edge, edge) < 1e-9) == whole
    assert crop.side >= 0.8 * 100 / 0.62
    if whole:
        assert crop == pytest.approx((0, 0, edge))


def test_sharpness_falls_with_blur_and_loudness_is_decibel() -> None:
    generator = np.random.default_rng(0)
    sharp = generator.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    soft = sharp.reshape(64, 4, 64, 4, 3).mean((1, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    assert sharpness(sharp) > 2 * sharpness(soft) > 0
    assert sharpness(np.full((256, 256, 3), 90, np.uint8)) == 0
    times = np.arange(16000) / 16000
    assert loudness(np.sin(2 * np.pi * 100 * times)) == pytest.approx(-3.01, abs=0.01)
    assert loudness(np.zeros(100)) == -120
    assert loudness(np.zeros(0)) == -120
