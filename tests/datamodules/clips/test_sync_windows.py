"""Sync windows: the right sound with the right frames, sound from elsewhere that shares nothing with it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.batches import SYNC_FRAMES
from datamodules.clips.clip_store import ClipFrames, ClipSounds, ClipStore
from datamodules.clips.datasets import SyncWindowDataset, sample_sync_starts
from datamodules.clips.manifest import read_manifest
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.video import VideoReader


def place_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Frame at which a piece of sound lies in its clip."""
    starts = np.flatnonzero(whole[: len(whole) - len(part) + 1] == part[0])
    [start] = [i for i in starts if np.array_equal(whole[i : i + len(part)], part)]
    assert start % 640 == 0
    return int(start) // 640


def test_frames_and_sounds_belong_together(fake_clips: Path) -> None:
    records = read_manifest(fake_clips)
    dataset = SyncWindowDataset(ClipFrames(fake_clips, 32), records, windows_per_clip=3, seed=2)
    assert len(dataset) == 3 * len(records)
    for index in range(len(dataset)):
        frames, own, other, distance = dataset[0, index]
        record = records[index // 3]
        whole = load_audio(fake_clips / str(record.audio))
        start = place_of(own.numpy(), whole)
        assert place_of(other.numpy(), whole) - start == int(distance)
        assert abs(int(distance)) >= SYNC_FRAMES
        stored = VideoReader(fake_clips / record.video).get(range(start, start + SYNC_FRAMES))
        expected = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 127.5 - 1
        torch.testing.assert_close(frames, expected)


def test_items_depend_on_seed_epoch_and_index_alone(fake_clips: Path) -> None:
    records = read_manifest(fake_clips)

    def item(seed: int, epoch: int, index: int) -> torch.Tensor:
        return SyncWindowDataset(ClipFrames(fake_clips, 32), records, 4, seed)[epoch, index].waveform

    assert torch.equal(item(1, 5, 9), item(1, 5, 9))
    for changed in ((2, 5, 9), (1, 6, 9), (1, 5, 10)):
        assert not torch.equal(item(1, 5, 9), item(*changed))


@pytest.mark.parametrize("frames", [10, 11, 14, 15, 40])
def test_starts_cover_all_that_is_possible_and_never_overlap(frames: int) -> None:
    generator = np.random.default_rng(0)
    drawn = {sample_sync_starts(frames, generator) for _ in range(4000)}
    assert all(
        abs(a - b) >= SYNC_FRAMES and min(a, b) >= 0 and max(a, b) <= frames - SYNC_FRAMES for a, b in drawn
    )
    starts = range(frames - SYNC_FRAMES + 1)
    possible = {(a, b) for a in starts for b in starts if abs(a - b) >= SYNC_FRAMES}
    assert drawn == possible or frames == 40


def test_clips_that_cannot_be_judged_are_left_out(fake_clips: Path) -> None:
    records = read_manifest(fake_clips)
    silent = dataclasses.replace(records[0], audio=None)
    short = dataclasses.replace(records[1], frames=9)
    frames = ClipFrames(fake_clips, 32)
    assert SyncWindowDataset(frames, [silent, short, records[2]], 1).records == [records[2]]
    with pytest.raises(UserError, match="no clip has sound"):
        SyncWindowDataset(frames, [silent, short], 1)


def test_few_sounds_stay_in_memory(fake_clips: Path) -> None:
    held = ClipSounds(ClipStore(fake_clips), most=2)
    records = read_manifest(fake_clips)
    first = held.get(records[0], 3, 5)
    for record in records:
        held.get(record, 0, 5)
    assert len(held._held) == 2
    np.testing.assert_array_equal(held.get(records[0], 3, 5), first)
    first[:] = 0
    assert held.get(records[0], 3, 5).any()  # what was given away is the caller's own
