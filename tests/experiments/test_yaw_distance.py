"""Reconstruction by yaw distance: frames go to their bins, and the measures say what was done to them."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from experiments.yaw_distance import YawDistances

YAW = np.array([-1.0, 0.0, 2.5, 9.0, -13.9, 13.9, 30.0])
"""Of a source and six frames: 1, 3.5, 10, 12.9, 14.9 and 31 degrees away from it."""


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Real frames ``(7, 64, 64, 3)``: textures that slide sideways."""
    texture = np.random.default_rng(0).integers(0, 255, (16, 32, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    return np.stack([texture[:, place : place + 64] for place in range(0, 56, 8)])


def tables(made: np.ndarray, real: np.ndarray, regions: np.ndarray | None = None) -> dict:
    distances = YawDistances()
    distances.add(made, real, YAW, regions)
    return distances.table()


def test_frames_are_counted_by_their_yaw_from_the_source_which_counts_nowhere(frames):
    found = tables(frames, frames)
    assert {name: one["frames"] for name, one in found.items()} == {
        "0-3": 1,
        "3-10": 1,
        "10-15": 3,
        "over 15": 1,
    }


def test_true_frames_are_perfect_and_a_copied_source_is_what_scikit_image_says(frames):
    perfect = tables(frames, frames)["over 15"]
    assert (perfect["ssim"], perfect["features"], perfect["sharpness"]) == (1, 0, 1)
    assert perfect["psnr"] > 90
    assert perfect["psnr_copy"] == pytest.approx(peak_signal_noise_ratio(frames[6], frames[0]), abs=1e-3)
    similar = structural_similarity(frames[6], frames[0], channel_axis=2)
    assert perfect["ssim_copy"] == pytest.approx(similar, abs=1e-4)
    assert perfect["features_copy"] > 0.1
    copied = tables(np.repeat(frames[:1], 7, axis=0), frames)["10-15"]
    for name in ("psnr", "ssim", "features", "sharpness"):
        assert copied[name] == copied[f"{name}_copy"]


def test_blur_is_less_sharp_and_errors_at_mouth_and_eyes_are_told_apart(frames):
    soft = frames.reshape(7, 32, 2, 32, 2, 3).mean((2, 4)).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    soft = np.stack([np.roll(one, 1, axis=1) // 2 + one // 2 for one in soft])
    regions = np.tile(np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 0.75, 1], [0.75, 0.5, 1, 1]]), (7, 1, 1))
    made = frames.copy()
    made[:, 32:, 32:] = frames[:1, 32:, 32:]  # the eyes stay those of the source
    found = tables(made, frames, regions)["10-15"]
    assert (found["mouth_error_removed"], found["eyes_error_removed"]) == (1, 0)
    assert tables(soft, frames)["10-15"]["sharpness"] < 0.8
    assert "mouth_error_removed" not in tables(made, frames)["10-15"]
