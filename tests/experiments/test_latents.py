"""The motion basis beside the latent cache: which clips it belongs to, and how many frames it needs."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from datamodules.errors import UserError
from datamodules.manifest import read_manifest
from experiments import latents


class Encoder(torch.nn.Module):
    """What ``ensure_latents`` needs to know of a motion autoencoder."""

    size = 32
    motion_dim = 3


class Frontend:
    """What it needs to know of an audio front end."""

    def identity(self) -> str:
        return "none"


class Cache:
    """Motion that depends on the clip's name alone."""

    def load(self, clip: str) -> dict[str, torch.Tensor]:
        return {"motion": torch.randn(90, 3, generator=torch.Generator().manual_seed(int(clip[-1])))}


@pytest.fixture
def records(fake_clips, monkeypatch):
    def build(records, root, folder, *args, **options):
        folder.mkdir(parents=True, exist_ok=True)
        return Cache()

    monkeypatch.setattr(latents, "build_latents", build)
    monkeypatch.setattr(latents, "encode_clip", lambda *parts: None)
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
