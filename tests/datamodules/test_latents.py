"""The latent cache: its values, what an interruption leaves, and several processes that write it."""

import os
import pickle
import shutil
import signal
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datamodules.clips.clip_store import ClipSounds, ClipStore
from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.latent_writing import build_latents
from datamodules.latents import LatentCache, cache_key
from datamodules.media.audio import load_audio
from datamodules.talking_head import TalkingHeadDataModule


class Encoder:
    """Motion is the frame mean, audio the mean of each half frame of sound.

    Args:
        scale: of motion and appearance.
        last: number of clips after which it fails; they are counted in ``calls``, by all processes in ``journal``.
        journal: grows by a byte a clip.
        failure: what happens then.
    """

    def __init__(
        self, scale: float = 1.0, last: int = 10**6, journal: Path | None = None, failure: str = "interrupted"
    ) -> None:
        self.calls, self.scale, self.last, self.journal, self.failure = 0, scale, last, journal, failure

    def to(self, device: str) -> Self:
        assert device == "cpu"
        return self

    def __call__(self, frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
        if self.calls == self.last and self.failure == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.calls == self.last:
            raise KeyboardInterrupt
        self.calls += 1
        if self.journal is not None:
            with self.journal.open("ab") as file:
                file.write(b".")
        assert frames.dtype == np.uint8
        assert waveform.dtype == np.float32
        assert waveform.shape == (640 * len(frames),)
        motion = torch.from_numpy(frames.mean((1, 2))).float() * self.scale
        audio = torch.from_numpy(waveform).view(-1, 320).mean(1, keepdim=True)
        return {"motion": motion, "appearance": motion / 255, "audio": audio}


@pytest.fixture
def records(fake_clips: Path) -> list[ClipRecord]:
    return read_manifest(fake_clips)[-2:]


def same(one: LatentCache, other: LatentCache, records: list[ClipRecord]) -> bool:
    return all(
        torch.equal(value, other.load(record.id)[name])
        for record in records
        for name, value in one.load(record.id).items()
    )


def test_latents_are_those_of_the_clip(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    records[0].audio = None  # gets silence
    cache = build_latents(
        records, fake_clips, tmp_path, Encoder(), size=16, progress=lambda *n: seen.append(n)
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]
    for record in records:
        latents = cache.load(record.id)
        assert {name: (tuple(value.shape), value.dtype) for name, value in latents.items()} == {
            "motion": ((record.frames, 3), torch.float16),
            "appearance": ((record.frames, 3), torch.float16),
            "audio": ((2 * record.frames, 1), torch.float16),
        }
    assert not cache.load(records[0].id)["audio"].any()
    waveform = load_audio(fake_clips / str(records[1].audio))
    heard = cache.load(records[1].id)["audio"][:, 0]
    np.testing.assert_allclose(heard, waveform.reshape(-1, 320).mean(1), atol=1e-4)
    assert (cache.load(records[1].id)["motion"].std(0) > 0).all()
    cache.check(records)


def test_resumed_cache_computes_only_what_is_missing_or_damaged(
    fake_clips: Path, records: list[ClipRecord], tmp_path: Path
) -> None:
    build_latents(records[:1], fake_clips, tmp_path, Encoder())
    encoder = Encoder()
    for _ in range(2):
        cache = build_latents(records, fake_clips, tmp_path, encoder)
        assert encoder.calls == 1
    before = cache.load(records[0].id)["motion"].clone()
    [path] = [path for path in cache.shards() if records[0].id in path.read_bytes()[:2000].decode("latin-1")]
    whole = path.read_bytes()
    for damage in (b"", whole[:-5], b"\xff" * 200, '{"a": 1}', '{"a": ["x", "y"]}', '["a"]', "[" * 10**5):
        if isinstance(damage, bytes):
            path.write_bytes(damage)
        else:  # what the metadata says
            save_file({"a": torch.zeros(1)}, path, {"clips": damage})
        damaged = LatentCache(tmp_path)
        assert damaged.problem(records[0]) == "are missing"
        with pytest.raises(UserError, match="run `ifmdm encode` again"):
            damaged.load(records[0].id)
        mended = build_latents(records, fake_clips, tmp_path, encoder)
        assert torch.equal(mended.load(records[0].id)["motion"], before)
    assert encoder.calls == 8
    assert path.read_bytes() == whole


def test_a_stop_keeps_the_written_shards(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)
    shards = {"shard_frames": records[0].frames}
    with pytest.raises(KeyboardInterrupt):
        build_latents(records, fake_clips, tmp_path, Encoder(last=3), **shards)
    kept = len(LatentCache(tmp_path).shards())
    assert kept == 3
    encoder = Encoder()
    cache = build_latents(records, fake_clips, tmp_path, encoder, **shards)
    assert encoder.calls == len(records) - 3
    assert len(cache.shards()) > kept
    cache.check(records)


def test_processes_share_the_work_and_one_that_is_killed_costs_what_it_had_not_written(
    fake_clips: Path, tmp_path: Path
) -> None:
    records, journal = read_manifest(fake_clips), tmp_path / "journal"
    dies = Encoder(last=1, failure="killed")
    with pytest.raises(UserError, match=r"^[^\n]*an encoding process died[^\n]*$"):
        build_latents(records, fake_clips, tmp_path / "both", dies, shard_frames=1, devices=["cpu"])
    assert len(LatentCache(tmp_path / "both").shards()) == 1
    seen: list[tuple[int, int]] = []
    encoder, show = Encoder(journal=journal), lambda *counts: seen.append(counts)
    both = build_latents(
        records, fake_clips, tmp_path / "both", encoder, devices=["cpu", "cpu"], progress=show
    )
    assert journal.stat().st_size == len(records) - 1
    assert (seen[0], seen[-1]) == ((1, len(records)), (len(records), len(records)))
    alone = build_latents(records, fake_clips, tmp_path / "alone", Encoder())
    assert same(alone, both, records)
    assert not [path for path in (tmp_path / "both").iterdir() if ".part" in path.name]


def test_few_shards_stay_open_and_a_copy_for_a_loader_opens_its_own(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)
    build_latents(records, fake_clips, tmp_path, Encoder(), shard_frames=1)
    cache = LatentCache(tmp_path, max_open=2)
    values = [cache.load(record.id)["motion"].clone() for record in records]
    assert len(cache._open) == 2
    copy = pickle.loads(pickle.dumps(cache))
    assert not copy._open
    assert all(torch.equal(copy.load(r.id)["motion"], v) for r, v in zip(records, values, strict=True))


def test_latents_of_another_version_of_the_video_are_made_again(
    fake_clips: Path, records: list[ClipRecord], tmp_path: Path
) -> None:
    cache = build_latents(records, fake_clips, tmp_path, Encoder())
    records[0].sha256 = "f" * 64
    records[1].frames -= 1
    assert cache.problem(records[0]) == "were made from another video"
    assert cache.problem(records[1]) == "have 50 frames, the clip 49"
    with pytest.raises(UserError, match="run `ifmdm encode` again"):
        cache.check(records)
    encoder = Encoder()
    build_latents(records, fake_clips, tmp_path, encoder).check(records)
    assert encoder.calls == 2


def test_wrong_latents_leave_nothing(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    def short(frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: value[:-1] for name, value in Encoder()(frames, waveform).items()}

    nan = Encoder(scale=float("nan"))
    cases = ((nan, UserError, f"clip {records[0].id}: motion is not finite"), (short, ValueError, "shape"))
    for encode, kind, message in cases:
        with pytest.raises(kind, match=message):
            build_latents(records, fake_clips, tmp_path, encode)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_key_tells_settings_apart(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    keys = {cache_key(), cache_key("a", 1), cache_key("a", "1"), cache_key("a1"), cache_key(1, "a")}
    assert len(keys) == 5
    assert cache_key("a", 1) == cache_key("a", 1)
    for _ in range(2):
        build_latents(records, fake_clips, tmp_path, Encoder(), parts=["weights", 128])
    with pytest.raises(UserError, match="other settings"):
        build_latents(records, fake_clips, tmp_path, Encoder(), parts=["weights", 256])
    with pytest.raises(UserError, match="no latents there; make them by `ifmdm encode"):
        LatentCache(tmp_path / "absent")


def test_sound_that_is_cut_off_is_no_silence(fake_clips: Path, tmp_path: Path) -> None:
    root = shutil.copytree(fake_clips, tmp_path / "clips")
    record = read_manifest(root)[0]
    store, path = ClipStore(root), root / str(record.audio)
    assert len(store.sound(record)) == 640 * record.frames
    os.truncate(path, path.stat().st_size * 2 // 3)
    sounds = (
        lambda: ClipSounds(store).get(record, 0, 5),
        lambda: build_latents([record], root, tmp_path / "cache", Encoder()),
        lambda: TalkingHeadDataModule(root, 32).whole_clip(record),
    )
    for read in sounds:
        with pytest.raises(UserError, match=f"{path}: sound of 60 frames, the manifest says 90; prepare"):
            read()
