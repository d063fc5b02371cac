"""Cuts are found between different pictures, not in motion, fades or noise; sharpness falls with blur."""

import numpy as np
import pytest

from datamodules.preparation.detection import CutFinder, sharpness


def scene(seed: int, frames: int, motion: float = 0.0) -> list[np.ndarray]:
    """A smooth random picture of 90 x 160 that shifts by ``motion`` pixels a frame, with some noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 16, 3)).repeat(15, axis=0).repeat(20, axis=1)
    return [
        np.clip(
            np.roll(coarse, round(i * motion), axis=1)[:, :160] + generator.normal(0, 4, (90, 160, 3)), 0, 255
        ).astype(np.uint8)
        for i in range(frames)
    ]


def cuts(frames: list[np.ndarray]) -> list[int]:
    finder = CutFinder()
    for frame in frames:
        finder.add(frame)
    return finder.cuts()


def test_every_cut_is_found_at_its_frame() -> None:
    assert cuts(scene(0, 20) + scene(1, 9) + scene(2, 30, motion=2)) == [20, 29]


@pytest.mark.parametrize("motion", [0.0, 1.0, 4.0])
def test_motion_is_no_cut(motion: float) -> None:
    assert cuts(scene(3, 60, motion)) == []


def test_a_fade_is_no_cut() -> None:
    first, second = scene(4, 1)[0].astype(float), scene(5, 1)[0].astype(float)
    shares = np.linspace(0, 1, 25)
    assert cuts([((1 - s) * first + s * second).astype(np.uint8) for s in shares]) == []


def test_short_videos_have_no_cuts() -> None:
    assert cuts([]) == []
    assert cuts(scene(0, 1)) == []


def test_sharpness_falls_with_blur() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    soft = sharp.reshape(64, 4, 64, 4, 3).mean((1, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    assert sharpness(sharp) > 2 * sharpness(soft) > 0
    assert sharpness(np.full((256, 256, 3), 90, np.uint8)) == 0
