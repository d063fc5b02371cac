"""Which frames and windows are drawn, and by which rank; pairs of clips that are annotated differently."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset, default_collate

from datamodules.batches import FramePairBatch
from datamodules.clips.annotations import read_annotations, write_annotations
from datamodules.clips.clip_store import ClipFrames
from datamodules.clips.datasets import EpochSampler, MotionWindowDataset, cut_window, sample_source
from datamodules.clips.frame_pairs import MOST_TURN, FramePairDataset, sample_pair
from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.errors import UserError

POINTS = {"fake0": 3, "fake1": 5}


@pytest.fixture
def mixed(fake_clips: Path, tmp_path: Path) -> tuple[Path, list[ClipRecord]]:
    """Three clips: one with pose and 3 landmarks, one with 5 landmarks but no lips, one without annotations."""
    root = tmp_path / "mixed"
    shutil.copytree(fake_clips, root)
    records = read_manifest(root)[:3]
    for record in records[:2]:
        arrays = read_annotations(root / str(record.annotations)).arrays
        arrays["landmarks"] = np.random.default_rng(0).uniform(size=(record.frames, POINTS[record.id], 2))
        if record.id == "fake0":
            arrays["lip_width"] = np.ones(record.frames)
        write_annotations(root / str(record.annotations), arrays, {})
    records[2] = dataclasses.replace(records[2], annotations=None)
    return root, records


@pytest.mark.parametrize("augment", [False, True])
def test_clips_with_and_without_annotations_share_a_batch(mixed, augment: bool) -> None:
    root, records = mixed
    dataset = FramePairDataset(ClipFrames(root, 16), records, 2, augment=augment)
    batch = default_collate([dataset[0, index] for index in range(6)])
    assert isinstance(batch, FramePairBatch)
    assert batch.pose.shape == (6, 2, 8)
    points = batch.landmarks.isfinite().all(dim=-1)
    expected = torch.arange(5) < torch.tensor([3, 3, 5, 5, 0, 0])[:, None]
    assert torch.equal(points, expected[:, None].expand(6, 2, 5))
    assert torch.equal(batch.pose.isfinite().all(dim=(1, 2)), torch.arange(6) < 2)
    assert all(value.dtype == torch.float32 for value in batch)


def test_points_of_the_surface_follow_the_landmarks_with_what_hides_them(mixed) -> None:
    root, records = mixed
    path = root / str(records[0].annotations)
    arrays, count = read_annotations(path).arrays, records[0].frames
    arrays["surface"] = np.tile(np.linspace(0, 1, count, dtype=np.float16)[:, None, None], (1, 2, 2))
    arrays["surface_visible"] = np.tile(np.array([True, False]), (count, 1))
    arrays["person"] = np.tile(np.arange(0, 255, 51, dtype=np.uint8)[:4].reshape(2, 2), (count, 1, 1))
    write_annotations(path, arrays, {})
    dataset = FramePairDataset(ClipFrames(root, 16), records, 1)
    batch = default_collate([dataset[0, index] for index in range(3)])
    assert batch.landmarks.shape == (3, 2, 5 + 2, 2)  # as many landmarks as the clip with the most has
    first = batch.landmarks[0]
    assert first[:, :3].isfinite().all()
    assert not first[:, 3:5].isfinite().any()
    assert torch.equal(first[:, 5], first[:, 6])
    assert (first[0, 5] - first[1, 5]).abs().min() > 0  # each of its own frame
    assert torch.equal(batch.visible[0, :, 5:], torch.tensor([[1.0, 0.0]] * 2))
    assert not batch.visible[:, :, :5].isfinite().any()  # nobody says what hides these
    assert not batch.landmarks[1:, :, 5:].isfinite().any()
    torch.testing.assert_close(batch.person[0, 1], torch.tensor([[0.0, 0.2], [0.4, 0.6]]))
    assert not batch.person[1:].isfinite().any()
    blurred = FramePairDataset(ClipFrames(root, 16), records, 1, background_blur=5)
    assert not torch.equal(blurred[0, 0].source, dataset[0, 0].source)
    assert torch.equal(blurred[0, 2].source, dataset[0, 2].source)


def test_motion_is_read_off_a_twin_at_times(mixed) -> None:
    root, records = mixed
    twins = {records[0].id: records[1]}
    plain = FramePairDataset(ClipFrames(root, 16), records, 40)
    dataset = FramePairDataset(ClipFrames(root, 16), records, 40, twins=twins, twin_share=0.5)
    pairs = [dataset[0, index] for index in range(80)]
    assert all(torch.equal(pair.shown, pair.driving) for pair in pairs[40:])  # a clip without a twin
    read_off = [index for index in range(40) if not torch.equal(pairs[index].shown, pairs[index].driving)]
    assert 8 < len(read_off) < 32
    for index in read_off:
        assert torch.equal(plain[0, index].source, pairs[index].source)
        assert torch.equal(plain[0, index].driving, pairs[index].driving)
    stored = [ClipFrames(root, 16).get(one, np.arange(one.frames)).astype(float) for one in records[:2]]
    for index in read_off:  # the same moment of both clips
        driving, shown = (
            ((frame + 1) * 127.5).permute(1, 2, 0).numpy()
            for frame in (pairs[index].driving, pairs[index].shown)
        )
        moments = [
            np.flatnonzero(np.abs(frames - frame).max(axis=(1, 2, 3)) < 1)
            for frames, frame in zip(stored, (driving, shown), strict=True)
        ]
        assert set(moments[0]) & set(moments[1])


def test_what_no_clip_knows_takes_no_room(mixed) -> None:
    root, records = mixed
    pair = FramePairDataset(ClipFrames(root, 16), records[2:], 1)[0, 0]
    assert pair.landmarks.shape == (2, 0, 2)
    assert pair.pose.shape == (2, 0)
    assert pair.person.shape == (2, 0, 0)
    blurred = FramePairDataset(ClipFrames(root, 16), records[2:], 1, background_blur=5)[0, 0]
    assert torch.equal(blurred.source, pair.source)  # where no clip knows the person nothing is blurred
    assert FramePairDataset(ClipFrames(root, 16), records[1:], 1)[0, 0].pose.shape == (2, 0)


def test_a_frame_with_shut_lids_is_never_the_source(mixed) -> None:
    root, records = mixed
    dataset = FramePairDataset(ClipFrames(root, 16), records, 1, blink_share=1.0)
    generator = np.random.default_rng(0)
    drawn = {dataset._shut_frame(records[0], 42, 7, generator) for _ in range(100)}
    assert drawn == {40, 41, 43, 44}  # the lids are shut from 40 to 44
    path = root / str(records[0].annotations)
    arrays = read_annotations(path).arrays
    write_annotations(path, arrays | {"blink": (np.arange(90) == 42).astype(np.float32)}, {})
    assert dataset._shut_frame(records[0], 42, 7, generator) == 7
    assert dataset._shut_frame(records[0], 41, 7, generator) == 42
    assert dataset._shut_frame(records[2], 41, 7, generator) == 7


def test_opening_pairs_lead_from_shut_to_open_lips(mixed) -> None:
    root, records = mixed
    path = root / str(records[0].annotations)
    lips = np.random.default_rng(3).permutation(90) / 90
    lips[5] = np.nan
    arrays = read_annotations(path).arrays | {"lip_opening": lips.astype(np.float32)}
    write_annotations(path, arrays, {})
    dataset = FramePairDataset(ClipFrames(root, 16), records, 1, mouth_share=1.0)
    generator = np.random.default_rng(0)
    pairs = [dataset._opening_pair(records[0], 1, 2, generator) for _ in range(200)]
    sources, driving = (lips[list(frames)] for frames in zip(*pairs, strict=True))
    assert sources.max() < 0.21
    assert driving.min() > 0.78
    assert len(set(pairs)) > 100
    assert dataset._opening_pair(records[2], 1, 2, generator) == (1, 2)
    for still in (np.full(90, 0.2), np.full(90, np.nan)):
        write_annotations(path, arrays | {"lip_opening": still.astype(np.float32)}, {})
        assert dataset._opening_pair(records[0], 1, 2, generator) == (1, 2)


def test_no_pair_asks_for_more_turn_than_a_portrait_can_show(mixed) -> None:
    root, records = mixed
    path = root / str(records[0].annotations)
    yaw = np.linspace(-60, 60, 90)
    yaw[7] = np.nan
    arrays = read_annotations(path).arrays
    turned = {"rotation": np.stack([yaw, 0 * yaw, 0 * yaw], axis=1).astype(np.float32)}
    write_annotations(path, arrays | turned, {})
    dataset, generator = FramePairDataset(ClipFrames(root, 16), records, 1), np.random.default_rng(0)
    drawn = [dataset._in_reach(records[0], 10, 80, generator) for _ in range(100)]
    assert np.abs(yaw[drawn] - yaw[10]).max() <= MOST_TURN
    assert len(set(drawn)) > 20
    assert 10 not in drawn
    for near in (12, 7):  # near enough, and not known
        assert dataset._in_reach(records[0], 10, near, generator) == near
    assert dataset._in_reach(records[2], 10, 80, generator) == 80


def test_shares_of_chosen_pairs_are_what_they_say(mixed) -> None:
    root, records = mixed
    dataset = FramePairDataset(ClipFrames(root, 16), records, 400, blink_share=0.15, mouth_share=0.25)
    seen = []
    dataset._shut_frame = lambda r, s, d, g: seen.append("lids") or d
    dataset._opening_pair = lambda r, s, d, g: seen.append("lips") or (s, d)
    dataset.frames.get = lambda record, frames: np.zeros((2, 16, 16, 3), np.uint8)
    for index in range(1200):
        dataset[0, index]
    assert seen.count("lids") / 1200 == pytest.approx(0.15, abs=0.03)
    assert seen.count("lips") / 1200 == pytest.approx(0.25, abs=0.03)


def test_video_shorter_than_the_manifest_says(fake_clips: Path) -> None:
    record = dataclasses.replace(read_manifest(fake_clips)[0], frames=91)
    with pytest.raises(UserError, match="manifest says 91"):
        ClipFrames(fake_clips, 32).get(record, np.array([0]))


@pytest.mark.parametrize(("frames", "distance"), [(90, 10), (12, 6), (2, 1), (1, 0)])
def test_pairs_are_apart(frames: int, distance: int) -> None:
    pairs = [sample_pair(frames, np.random.default_rng(seed)) for seed in range(300)]
    assert min(abs(source - driving) for source, driving in pairs) >= distance
    assert {source for source, _ in pairs} == set(range(frames)) or frames == 90
    assert max(max(pair) for pair in pairs) < frames


@pytest.mark.parametrize("size", [20, 21])
def test_ranks_share_an_epoch(size: int) -> None:
    dataset = TensorDataset(torch.zeros(size))
    shares = []
    for rank in range(2):
        sampler = EpochSampler(dataset, shuffle=True, rank=rank, ranks=2)
        sampler.set_epoch(3)
        shares.append(list(sampler))
    assert len(shares[0]) == len(shares[1]) == (size + 1) // 2
    assert {epoch for share in shares for epoch, _ in share} == {3}
    assert {index for share in shares for _, index in share} == set(range(size))
    if size % 2 == 0:
        assert not set(shares[0]) & set(shares[1])


def test_sources_cover_all_frames_outside_the_window() -> None:
    drawn = {sample_source(100, 20, np.random.default_rng(seed)) for seed in range(800)}
    assert drawn == {*range(20), *range(85, 100)}
    assert {sample_source(65, 0, np.random.default_rng(seed)) for seed in range(20)} == {0}


@pytest.mark.parametrize(("start", "known"), [(63, False), (64, True), (100, True)])
def test_previous_motion_is_that_of_the_window_before(start: int, known: bool) -> None:
    clip = {"motion": torch.randn(200, 4), "appearance": torch.randn(200, 6), "audio": torch.randn(400, 2)}
    window = cut_window(clip, start, 0)
    assert bool(window.has_previous) == known
    there = clip["motion"][max(start - 64, 0) : start + 1]
    assert torch.equal(window.previous[-len(there) :], there)
    assert window.previous[: -len(there)].isnan().all()
    if known and start > 64:
        earlier = cut_window(clip, start - 64, 0).motion  # the window that was generated before this one
        assert torch.equal(window.previous, earlier)


def test_speech_around_a_window_goes_on_from_its_own_and_ends_with_the_clip() -> None:
    clip = {
        "motion": torch.zeros(100, 4),
        "appearance": torch.zeros(100, 6),
        "audio": torch.arange(200.0)[:, None],
    }
    before, after = cut_window(clip, 20, 0).audio_around[..., 0]
    assert before.tolist() == list(range(10, 42))  # frames 5 to 20
    assert after.tolist() == [*range(170, 200), 198, 199]
    first = cut_window(clip, 0, 0)
    assert first.audio_around[0, :, 0].tolist() == [0, 1] * 16
    assert first.audio[0] == 2


@pytest.mark.parametrize("windows_per_clip", [None, 2])
def test_speech_is_learnt_from_clips_with_sound_alone(mixed, windows_per_clip: int | None) -> None:
    _, records = mixed
    silent = [dataclasses.replace(record, audio=None) for record in records]
    chosen = MotionWindowDataset(None, [silent[0], records[1], silent[2]], windows_per_clip)
    assert chosen.records == records[1:2]
    assert len(chosen) == len(MotionWindowDataset(None, records[1:2], windows_per_clip)) > 0
    with pytest.raises(UserError, match="none of the clips has sound"):
        MotionWindowDataset(None, silent, windows_per_clip)
