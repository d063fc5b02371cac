"""Latents and motion basis of a dataset: in shards, kept and found again; what is refused."""

import dataclasses
import os
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datamodules.clips.clip_store import ClipStore
from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.latents import LatentCache
from experiments.encode import Latents, encode_clips, parse_shard, worker_devices


class Encoder:
    """Motion that depends on the pictures alone."""

    size = 32
    motion_dim = 3

    def parts(self) -> tuple[str]:
        return ("weights",)

    def to(self, device: str) -> Self:
        return self

    def __call__(self, frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
        motion = torch.randn(len(frames), 3, generator=torch.Generator().manual_seed(int(frames.sum())))
        return {
            "motion": motion,
            "appearance": torch.zeros(len(frames), 2),
            "audio": torch.zeros(2 * len(frames), 1),
        }


@pytest.fixture
def store(fake_clips: Path, tmp_path: Path) -> ClipStore:
    (tmp_path / "clips").symlink_to(fake_clips / "clips")
    return ClipStore(tmp_path)


@pytest.fixture(scope="module")
def records(fake_clips: Path) -> list[ClipRecord]:
    return [record for record in read_manifest(fake_clips) if record.split != "test"]


def encode(records: list[ClipRecord], store: ClipStore, **options) -> Latents:
    latents = encode_clips(records, store, Encoder(), **options)
    assert latents is not None
    return latents


def test_the_basis_belongs_to_the_training_clips(records, store) -> None:
    train = [record for record in records if record.split == "train"]
    one = encode(records, store)
    again = encode([*reversed(train), *(r for r in records if r.split == "val")], store)
    assert torch.equal(again.basis.mean, one.basis.mean)
    assert len([*one.folder.glob("basis-*")]) == 1
    fewer = encode(train[:2], store)
    assert not torch.equal(fewer.basis.mean, one.basis.mean)
    changed = [dataclasses.replace(train[0], sha256="f" * 64), *train[1:]]
    assert fewer.folder == encode(changed, store).folder == one.folder
    assert len([*one.folder.glob("basis-*")]) == 3


def test_the_basis_is_read_where_it_is_there(records, store) -> None:
    latents = encode(records, store)
    [file] = latents.folder.glob("basis-*")
    latents.basis.mean.fill_(7)
    save_file(latents.basis.state_dict(), file)
    assert (encode(records, store).basis.mean == 7).all()
    for content in (file.read_bytes()[:-5], b"no basis", b""):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"^[^\n]*basis-[^\n]*damaged[^\n]*$"):
            encode(records, store)
    save_file({"mean": torch.zeros(3)}, file)
    with pytest.raises(UserError, match=r"^[^\n]*basis-[^\n]*don't fit[^\n]*$"):
        encode(records, store)


def test_too_few_training_frames_are_told_before_the_work(records, store) -> None:
    for few in ([r for r in records if r.split != "train"], [dataclasses.replace(records[0], frames=11)]):
        with pytest.raises(
            UserError, match=r"^[^\n]*frames in the split train, the motion basis needs 12[^\n]*$"
        ):
            encode_clips(few, store, Encoder())
    assert not (store.root / "latents").exists()


def test_two_shards_equal_one_run(records, store, tmp_path, caplog) -> None:
    one = encode(records, store, folder=tmp_path / "one")
    options = {"folder": tmp_path / "two"}
    with caplog.at_level("INFO"):
        assert encode_clips(records, store, Encoder(), shard=(2, 2), **options) is None
    assert "3 of 5 clips are left for the other shards" in caplog.text
    two = encode(records, store, shard=(1, 2), **options)
    for record in records:
        first, second = (LatentCache(latents.folder).load(record.id) for latents in (one, two))
        assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in one.basis.state_dict().items():
        assert torch.equal(value, two.basis.state_dict()[name])


def test_what_a_killed_encoder_left_is_removed(records, store) -> None:
    """What is younger may be another process's."""
    folder = encode(records, store).folder
    old, young = folder / ".shard-a.0123456789ab.part.safetensors", folder / ".shard-b.part.safetensors"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    encode(records, store)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize(
    ("workers", "frames", "gpus", "devices"),
    [
        (None, 0, 2, []),
        (None, 100, 2, ["cuda:0", "cuda:1"]),
        (3, 100, 2, ["cuda:0", "cuda:1", "cuda:0"]),
        (None, 100, 0, []),
        (1, 10**9, 0, []),
        (2, 100, 0, ["cpu", "cpu"]),
    ],
)
def test_one_process_works_on_each_device(workers, frames, gpus, devices) -> None:
    assert worker_devices(workers, frames, gpus) == devices


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_wrong_shards_are_refused(text) -> None:
    with pytest.raises(UserError, match="is not I/N with I from 1 to N"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "encode needs autoencoder=RUN"),
        (["autoencoder=nowhere", "data=folder"], "nowhere: no such run folder"),
        (["autoencoder=nowhere", "shard=2/1"], "shard=2/1: is not I/N"),
        (["autoencoder=nowhere", "wrokers=2"], "no key 'wrokers'; did you mean workers"),
    ],
)
def test_wrong_words_are_one_line(words, message, tmp_path, monkeypatch, refused) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(["encode", *words])
    assert not list(tmp_path.iterdir())
