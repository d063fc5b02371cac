"""A stream gives the batches of the folder that it was made of."""

import pickle
from pathlib import Path

import pytest
import torch

from datamodules.clips.manifest import read_manifest
from datamodules.errors import UserError
from datamodules.latent_writing import build_latents
from datamodules.streaming import STREAM_FOLDER, StreamedClips, StreamingDataModule, write_stream
from datamodules.talking_head import TalkingHeadDataModule
from tests.datamodules.test_latents import Encoder

pytest.importorskip("litdata", reason="the extra 'stream' is not installed")


@pytest.fixture(scope="module")
def folder(fake_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streamed")
    for name in ("clips", "manifest.jsonl"):
        (root / name).symlink_to(fake_clips / name)
    stream = write_stream(root)
    assert not list(root.glob(".*.part"))
    made = (stream / "index.json").stat().st_mtime_ns
    assert write_stream(root) == stream  # the same again: nothing to do
    assert (stream / "index.json").stat().st_mtime_ns == made
    return root


def same(one: tuple, other: tuple) -> bool:
    return all(torch.equal(a.nan_to_num(-7), b.nan_to_num(-7)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("task", ["frame_pairs", "sync_windows"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_folder(folder: Path, tmp_path: Path, task: str, workers: int) -> None:
    options = {"task": task, "batch_size": 3, "num_workers": workers, "seed": 5}
    plain = TalkingHeadDataModule(folder, 32, **options)
    address = f"local:{folder / STREAM_FOLDER}"
    streamed = StreamingDataModule(address, 32, tmp_path, **options)
    for module in (plain, streamed):
        module.setup("fit")
    for loader in ("train_dataloader", "val_dataloader"):
        pairs = zip(getattr(plain, loader)(), getattr(streamed, loader)(), strict=True)
        assert all(same(a, b) for a, b in pairs)


def test_latents_of_a_stream_are_those_of_the_folder(folder: Path, tmp_path: Path) -> None:
    store = StreamedClips(f"local:{folder / STREAM_FOLDER}", tmp_path / "cache")
    made = [
        build_latents(store.records, clips, tmp_path / name, Encoder())
        for name, clips in (("streamed", store), ("plain", folder))
    ]
    for record in store.records:
        streamed, plain = (cache.load(record.id) for cache in made)
        assert all(torch.equal(streamed[name], plain[name]) for name in plain)


def test_few_clips_stay_unpacked_and_leftovers_of_dead_processes_go(folder: Path, tmp_path: Path) -> None:
    dead = tmp_path / "process-999999999"
    dead.mkdir()
    store = StreamedClips(f"local:{folder / STREAM_FOLDER}", tmp_path, max_clips=2)
    assert store.records == read_manifest(folder)
    for record in store.records:
        assert store.video(record).read_bytes() == (folder / record.video).read_bytes()
        assert store.audio(record).read_bytes() == (folder / record.audio).read_bytes()
    assert not dead.exists()
    [mine] = tmp_path.glob("process-*")
    assert len(list(mine.iterdir())) == 2
    assert pickle.loads(pickle.dumps(store)).video(store.records[0]).is_file()


def test_what_is_no_stream_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for address in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(UserError, match="no stream of prepared clips") as caught:
            StreamedClips(str(address), tmp_path / "cache")
        assert "\n" not in str(caught.value)
