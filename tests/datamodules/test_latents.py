from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.audio import load_audio
from datamodules.errors import UserError
from datamodules.latents import LatentCache, build_latents, cache_key
from datamodules.manifest import ClipRecord, read_manifest


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
            "motion": ((record.frames, 3), torch.float32),
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
    path = cache.path(records[0].id)
    for damage in (b"", path.read_bytes()[:-5], b"\xff" * 200):
        path.write_bytes(damage)
        assert cache.problem(records[0]) == "damaged"
        with pytest.raises(UserError, match="damaged"):
            cache.load(records[0].id)
        build_latents(records, fake_clips, tmp_path, encoder)
        assert torch.equal(cache.load(records[0].id)["motion"], before)
    assert encoder.calls == 4


def test_latents_of_another_version_of_the_video_are_made_again(
    fake_clips: Path, records: list[ClipRecord], tmp_path: Path
) -> None:
    cache = build_latents(records, fake_clips, tmp_path, Encoder())
    records[0].sha256 = "f" * 64
    records[1].frames -= 1
    assert cache.problem(records[0]) == "made from another video"
    assert "does not fit" in str(cache.problem(records[1]))
    with pytest.raises(UserError, match="build the latent cache again"):
        cache.check(records)
    encoder = Encoder()
    build_latents(records, fake_clips, tmp_path, encoder)
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
