"""What intensity scales, and what it leaves alone."""

import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.generation.motion_intensity import scale_motion, scale_statistics

BLOCKS = {"head": slice(0, 1), "mouth": slice(1, 2), "eyes": slice(2, 3), "rest": slice(3, 4)}


@pytest.mark.parametrize(
    ("blocks", "intensity", "mean", "std"),
    [
        (BLOCKS, 0.5, [2, 3, 3, 2], [1, 2, 2, 1]),
        (BLOCKS, 0.0, [1, 3, 3, 1], [0, 2, 2, 0]),
        ({}, 0.5, [2, 2, 2, 2], [1, 1, 1, 1]),
    ],
)
def test_statistics_of_head_and_rest_alone_are_scaled(blocks, intensity, mean, std):
    given = torch.full((1, 4), 3.0), torch.full((1, 4), 2.0), torch.ones(1, 4)
    scaled = scale_statistics(*given, blocks, intensity)
    assert [values.tolist() for values in scaled] == [[mean], [std]]


def test_closed_lips_stay_closed():
    closed = torch.tensor([-1.0])
    motion = torch.zeros(1, 5, 4)
    motion[..., 1] = torch.tensor([-1.0, 0, 1, 0, -1])
    scaled = scale_motion(motion, torch.zeros(1, 4), BLOCKS, mouth_intensity=1.5, mouth_closed=closed)
    assert scaled[0, :, 1].tolist() == [-1, 0.5, 2, 0.5, -1]
    assert scaled[..., [0, 2, 3]].equal(motion[..., [0, 2, 3]])


def test_eyes_are_scaled_about_the_centre_and_alone():
    motion, centre = torch.randn(1, 9, 4), torch.randn(1, 4)
    scaled = scale_motion(motion, centre, BLOCKS, eyes_intensity=0.5)
    torch.testing.assert_close(scaled[..., 2], (motion[..., 2] + centre[:, 2:3]) / 2)
    torch.testing.assert_close(scaled[..., [0, 1, 3]], motion[..., [0, 1, 3]])


def test_scaled_motion_rests_at_zero_and_is_unchanged_at_one():
    motion, centre = torch.randn(1, 9, 4), torch.randn(1, 4)
    torch.testing.assert_close(scale_motion(motion, centre, BLOCKS), motion)
    still = scale_motion(motion, centre, BLOCKS, intensity=0.0)
    torch.testing.assert_close(still[..., 0], centre[:, :1].expand(1, 9))
    torch.testing.assert_close(still[..., 1:3], motion[..., 1:3])


def test_impossible_intensities_are_refused():
    motion, centre = torch.zeros(1, 2, 4), torch.zeros(1, 4)
    for block in ("mouth", "eyes"):
        with pytest.raises(UserError, match=f"{block} intensity needs"):
            scale_motion(motion, centre, {}, **{f"{block}_intensity": 2.0})
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="intensity is"):
            scale_motion(motion, centre, BLOCKS, intensity=value)
