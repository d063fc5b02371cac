"""The motion basis beside the latent cache: which clips it belongs to, and how many frames it needs."""

import dataclasses
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.latents import LatentCache
from experiments import latents


class Encoder(torch.nn.Module):
    """What ``ensure_latents`` needs to know of a motion autoencoder."""

    size = 32
    motion_dim = 3


class Frontend:
    """What it needs to know of an audio front end."""

    def identity(self) -> str:
        return "none"


def encode(frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
    """Motion that depends on the pictures alone."""
    generator = torch.Generator().manual_seed(int(frames.sum()))
    count = len(frames)
    motion = torch.randn(count, 3, generator=generator)
    return {"motion": motion, "appearance": torch.zeros(count, 2), "audio": torch.zeros(2 * count, 1)}


@pytest.fixture
def records(fake_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ClipRecord]:
    monkeypatch.setattr(latents, "encode_clip", lambda *parts: encode)
    monkeypatch.setattr(latents, "weights_hash", lambda model: "weights")
    (tmp_path / "clips").symlink_to(fake_clips / "clips")
    return [dataclasses.replace(r, annotations=None) for r in read_manifest(fake_clips)]


def test_the_basis_belongs_to_the_training_clips(records, tmp_path):
    few = [r for r in records if r.id != "fake2"]
    folder, basis = latents.ensure_latents(Encoder(), Frontend(), few, tmp_path)
    again, same = latents.ensure_latents(Encoder(), Frontend(), list(reversed(few)), tmp_path)
    assert again == folder
    assert torch.equal(same.mean, basis.mean)
    assert len(list(folder.glob("basis-*.safetensors"))) == 1
    _, other = latents.ensure_latents(Encoder(), Frontend(), records, tmp_path)
    assert not torch.equal(other.mean, basis.mean)
    changed = [dataclasses.replace(r, sha256="0" * 64) if r.id == "fake0" else r for r in few]
    latents.ensure_latents(Encoder(), Frontend(), changed, tmp_path)
    assert len(list(folder.glob("basis-*.safetensors"))) == 3


def test_a_basis_that_is_there_is_kept(records, tmp_path):
    folder, basis = latents.ensure_latents(Encoder(), Frontend(), records, tmp_path)
    (file,) = folder.glob("basis-*.safetensors")
    save_file(basis.state_dict() | {"mean": basis.mean + 1}, file)
    _, found = latents.ensure_latents(Encoder(), Frontend(), records, tmp_path)
    torch.testing.assert_close(found.mean, basis.mean + 1)


def test_too_few_training_frames_are_told_in_one_line(records, tmp_path):
    for short in ([r for r in records if r.split != "train"], [dataclasses.replace(records[0], frames=11)]):
        with pytest.raises(
            UserError, match=r"^[^\n]*frames in the split train, the motion basis needs 12[^\n]*$"
        ):
            latents.ensure_latents(Encoder(), Frontend(), short, tmp_path)


def test_processes_that_start_together_share_the_clips_and_the_basis(records, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "POLL_SECONDS", 0.05)

    def other() -> None:
        time.sleep(0.5)  # so that this one has to wait
        torch.set_num_threads(1)
        latents.ensure_latents(Encoder(), Frontend(), records, tmp_path, rank=1, ranks=2)

    process = multiprocessing.get_context("fork").Process(target=other)
    process.start()
    folder, basis = latents.ensure_latents(Encoder(), Frontend(), records, tmp_path, rank=0, ranks=2)
    process.join(60)
    assert process.exitcode == 0
    cache = LatentCache(folder)
    cache.check(records)
    assert len(cache.shards()) == 2
    _, alone = latents.ensure_latents(Encoder(), Frontend(), records, tmp_path)
    assert torch.equal(alone.mean, basis.mean)
