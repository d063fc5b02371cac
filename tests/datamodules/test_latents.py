import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import latents
from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.latents import LatentCache, build_latents, cache_key
from datamodules.media.audio import load_audio


class Encoder:
    """Counts its calls; motion is the frame mean, audio the mean of each half frame of sound."""

    def __init__(self, scale: float = 1.0) -> None:
        self.calls = 0
        self.scale = scale

    def __call__(self, frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
        self.calls += 1
        assert frames.dtype == np.uint8
        assert waveform.dtype == np.float32
        assert waveform.shape == (640 * len(frames),)
        motion = torch.from_numpy(frames.mean((1, 2))).float() * self.scale
        audio = torch.from_numpy(waveform).view(-1, 320).mean(1, keepdim=True)
        return {"motion": motion, "appearance": motion / 255, "audio": audio}


@pytest.fixture
def records(fake_clips: Path) -> list[ClipRecord]:
    return read_manifest(fake_clips)[-2:]


def test_latents_are_those_of_the_clip(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    seen = []
    cache = build_latents(records, fake_clips, tmp_path, Encoder(), lambda *done: seen.append(done), size=16)
    assert seen == [(1, 2), (2, 2)]
    for record in records:
        latents = cache.load(record.id)
        assert {name: (tuple(value.shape), value.dtype) for name, value in latents.items()} == {
            "motion": ((record.frames, 3), torch.float16),
            "appearance": ((record.frames, 3), torch.float16),
            "audio": ((2 * record.frames, 1), torch.float16),
        }
        waveform = load_audio(fake_clips / record.audio)
        np.testing.assert_allclose(latents["audio"][:, 0], waveform.reshape(-1, 320).mean(1), atol=1e-4)
    assert (cache.load(records[1].id)["motion"].std(0) > 0).all()
    cache.check(records)


def test_resumed_cache_computes_only_what_is_missing(
    fake_clips: Path, records: list[ClipRecord], tmp_path: Path
) -> None:
    build_latents(records[:1], fake_clips, tmp_path, Encoder())
    encoder = Encoder()
    cache = build_latents(records, fake_clips, tmp_path, encoder)
    assert encoder.calls == 1
    build_latents(records, fake_clips, tmp_path, encoder)
    assert encoder.calls == 1
    before = cache.load(records[0].id)["motion"].clone()
    [path] = [path for path in cache.shards() if records[0].id in path.read_bytes()[:2000].decode("latin-1")]
    whole = path.read_bytes()
    for damage in (b"", whole[:-5], b"\xff" * 200):
        path.write_bytes(damage)
        damaged = LatentCache(tmp_path)
        assert damaged.problem(records[0]) == "are missing"
        with pytest.raises(UserError, match="build the latent cache again"):
            damaged.load(records[0].id)
        assert torch.equal(
            build_latents(records, fake_clips, tmp_path, encoder).load(records[0].id)["motion"], before
        )
    assert encoder.calls == 4
    assert path.read_bytes() == whole


def test_processes_share_the_work(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)
    alone = build_latents(records, fake_clips, tmp_path / "alone", Encoder())
    encoders = [Encoder() for _ in range(3)]
    for rank, encoder in enumerate(encoders):
        build_latents(records, fake_clips, tmp_path / "shared", encoder, rank=rank, ranks=3)
    assert sum(encoder.calls for encoder in encoders) == len(records)
    assert max(encoder.calls for encoder in encoders) <= -(-len(records) // 3)
    shared = LatentCache(tmp_path / "shared")
    shared.check(records)
    assert len(shared.shards()) == 3
    for record in records:
        for name, value in alone.load(record.id).items():
            assert torch.equal(value, shared.load(record.id)[name])


def test_long_caches_are_written_in_shards_and_a_stop_keeps_the_written_ones(
    fake_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_manifest(fake_clips)
    monkeypatch.setattr(latents, "SHARD_FRAMES", records[0].frames)

    class Stops(Encoder):
        def __call__(self, frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().__call__(frames, waveform)

    with pytest.raises(KeyboardInterrupt):
        build_latents(records, fake_clips, tmp_path, Stops())
    kept = len(LatentCache(tmp_path).shards())
    assert kept >= 1
    encoder = Encoder()
    cache = build_latents(records, fake_clips, tmp_path, encoder)
    assert encoder.calls < len(records)
    assert len(cache.shards()) > kept
    cache.check(records)


def test_few_shards_stay_open_and_a_copy_for_a_worker_opens_its_own(
    fake_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_manifest(fake_clips)
    monkeypatch.setattr(latents, "SHARD_FRAMES", 1)
    monkeypatch.setattr(latents, "MAX_OPEN", 2)
    cache = build_latents(records, fake_clips, tmp_path, Encoder())
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
    with pytest.raises(UserError, match="build the latent cache again"):
        cache.check(records)
    encoder = Encoder()
    cache = build_latents(records, fake_clips, tmp_path, encoder)
    assert encoder.calls == 2
    cache.check(records)


def test_interrupted_clip_leaves_nothing(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        build_latents(records, fake_clips, tmp_path, Encoder(scale=float("nan")))

    def wrong(frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: value[:-1] for name, value in Encoder()(frames, waveform).items()}

    with pytest.raises(ValueError, match="shape"):
        build_latents(records, fake_clips, tmp_path, wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_clip_without_sound_gets_silence(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    records[0].audio = None
    cache = build_latents(records, fake_clips, tmp_path, Encoder())
    assert not cache.load(records[0].id)["audio"].any()


def test_key_tells_settings_apart(fake_clips: Path, records: list[ClipRecord], tmp_path: Path) -> None:
    keys = {cache_key(), cache_key("a", 1), cache_key("a", "1"), cache_key("a1"), cache_key(1, "a")}
    assert len(keys) == 5
    assert cache_key("a", 1) == cache_key("a", 1)
    build_latents(records, fake_clips, tmp_path, Encoder(), parts=["weights", 128])
    build_latents(records, fake_clips, tmp_path, Encoder(), parts=["weights", 128])
    with pytest.raises(UserError, match="other settings"):
        build_latents(records, fake_clips, tmp_path, Encoder(), parts=["weights", 256])
    with pytest.raises(UserError, match="no latent cache"):
        LatentCache(tmp_path / "absent")
