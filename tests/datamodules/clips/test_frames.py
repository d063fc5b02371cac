"""Frames of prepared clips: the stored ones, or resized."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.frames import ClipFrames
from datamodules.clips.manifest import read_manifest
from datamodules.errors import UserError
from datamodules.media.pictures import resize_bilinear
from datamodules.media.video import VideoReader


def test_frames_without_resizing_are_the_stored_ones(fake_clips: Path) -> None:
    record = read_manifest(fake_clips)[0]
    wanted = np.array([7, 3, 80])
    stored = VideoReader(fake_clips / record.video).get(wanted)
    np.testing.assert_array_equal(ClipFrames(fake_clips, 32).get(record, wanted), stored)
    halves = stored.reshape(3, 16, 2, 16, 2, 3).mean((2, 4))
    resized = resize_bilinear(stored, 16)
    assert np.abs(resized - halves).mean() < 3


def test_video_shorter_than_the_manifest_says(fake_clips: Path) -> None:
    record = read_manifest(fake_clips)[0]
    record.frames = 91
    with pytest.raises(UserError, match="manifest says 91"):
        ClipFrames(fake_clips, 32).get(record, np.array([0]))
