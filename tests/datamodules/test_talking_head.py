"""The batches of the DataModule: contracts, reproducibility, shares of processes; and that it needs nothing but a Trainer."""

import dataclasses
import shutil
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from datamodules.batches import FramePairBatch, MotionWindowBatch
from datamodules.clips.clip_store import ClipFrames
from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.latent_writing import build_latents
from datamodules.latents import LatentCache
from datamodules.media.audio import log_mel
from datamodules.media.video import write_video
from datamodules.talking_head import TalkingHeadDataModule


def encode(frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
    """Stand-in encoder whose values tell the frame they belong to."""
    count = torch.arange(len(frames)).float()
    noise = torch.from_numpy(frames.astype(np.float32)).flatten(1)[:, :4]
    audio = torch.arange(2 * len(frames)).float()[:, None].expand(-1, 3)
    return {
        "motion": torch.cat([count[:, None], noise], 1),
        "appearance": count[:, None].repeat(1, 8),
        "audio": audio,
    }


@pytest.fixture(scope="module")
def latents(fake_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentCache:
    return build_latents(read_manifest(fake_clips), fake_clips, tmp_path_factory.mktemp("latents"), encode)


def pair_module(root: Path, **options) -> TalkingHeadDataModule:
    module = TalkingHeadDataModule(root, 16, batch_size=5, pairs_per_clip=4, augment=True, **options)
    module.setup("fit")
    return module


def epochs(module: TalkingHeadDataModule, count: int, split: str = "train") -> list[list]:
    loader = module.train_dataloader() if split == "train" else module.val_dataloader()
    collected = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        collected.append(list(loader))
    return collected


def same(first: list, second: list) -> bool:
    pairs = zip(first, second, strict=True)
    found = ((a, b) for one, other in pairs for a, b in zip(one, other, strict=True))
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in found)


def test_frame_pairs_have_contract_shapes_and_ranges(fake_clips: Path) -> None:
    (batches,) = epochs(pair_module(fake_clips), 1)
    assert len(batches) == 3  # 4 clips of 4 pairs; the incomplete batch is left out
    for batch in batches:
        assert isinstance(batch, FramePairBatch)
        assert batch.source.shape == batch.driving.shape == (5, 3, 16, 16)
        assert batch.regions.shape == (5, 3, 4)
        assert all(value.dtype == torch.float32 for value in batch)
        assert -1 <= batch.source.min() < batch.source.max() <= 1
        assert not torch.equal(batch.source, batch.driving)
        assert (batch.regions >= 0).all()
        assert (batch.regions[..., 2:] >= batch.regions[..., :2]).all()


def test_batches_do_not_depend_on_workers_and_differ_between_epochs(fake_clips: Path) -> None:
    alone = epochs(pair_module(fake_clips), 2)
    helped = epochs(pair_module(fake_clips, num_workers=2), 2)  # workers persist and must see the new epoch
    assert same(alone[0], helped[0])
    assert same(alone[1], helped[1])
    assert not same(alone[0], alone[1])
    assert not same(alone[0], epochs(pair_module(fake_clips, seed=1), 1)[0])


def test_validation_is_the_same_every_epoch(fake_clips: Path) -> None:
    first, second = epochs(pair_module(fake_clips), 2, "val")
    assert same(first, second)
    plain = TalkingHeadDataModule(fake_clips, 16, batch_size=5, pairs_per_clip=4)
    plain.setup("validate")
    assert same(first, list(plain.val_dataloader()))  # never augmented


def test_cached_frames_equal_decoded_frames(fake_clips: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "clips").symlink_to(fake_clips / "clips")
    (root / "manifest.jsonl").symlink_to(fake_clips / "manifest.jsonl")
    assert same(epochs(pair_module(fake_clips), 1)[0], epochs(pair_module(root, cache_frames=True), 1)[0])
    record = read_manifest(root)[0]
    path = next((root / "frames" / "16").glob(f"{record.id}*.npy"))
    expected = ClipFrames(fake_clips, 16).get(record, np.arange(90))
    path.write_bytes(path.read_bytes()[:1000])  # cut off: must be decoded again
    np.testing.assert_array_equal(ClipFrames(root, 16, cache=True).get(record, np.arange(90)), expected)


@pytest.mark.parametrize("share", ["blink_share", "mouth_share"])
def test_chosen_pairs_are_for_training_only(fake_clips: Path, share: str) -> None:
    plain, chosen = pair_module(fake_clips), pair_module(fake_clips, **{share: 1.0})
    assert not same(epochs(plain, 1)[0], epochs(chosen, 1)[0])
    assert same(epochs(plain, 1, "val")[0], epochs(chosen, 1, "val")[0])


class Model(lightning.LightningModule):
    """Remembers a field of the batches; each rank leaves what it saw in ``folder``."""

    def __init__(self, field: str = "source", folder: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, torch.Tensor]] = []
        self.field, self.folder = field, folder

    def training_step(self, batch: tuple, _: int) -> torch.Tensor:
        values = getattr(batch, self.field)
        self.seen.append((self.current_epoch, values))
        return self.weight * values.mean()

    def validation_step(self, batch: tuple, _: int) -> None:
        pass

    def on_train_end(self) -> None:
        if self.folder is not None:
            torch.save(self.seen, self.folder / f"rank{self.global_rank}.pt")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(model: Model, module: TalkingHeadDataModule, **options) -> Model:
    """Train with nothing but Lightning's Trainer."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)
    trainer.fit(model, datamodule=module)
    return model


def test_lightning_keeps_the_sampler_and_tells_it_the_epoch(fake_clips: Path) -> None:
    seen = fit(Model(), pair_module(fake_clips), max_epochs=2).seen
    expected = epochs(pair_module(fake_clips), 2)
    assert [epoch for epoch, _ in seen] == [0, 0, 0, 1, 1, 1]
    for (_, source), batch in zip(seen, [*expected[0], *expected[1]], strict=True):
        assert torch.equal(source, batch.source)


def test_two_processes_get_disjoint_halves(fake_clips: Path, tmp_path: Path) -> None:
    module = TalkingHeadDataModule(fake_clips, 16, batch_size=4, pairs_per_clip=4)  # 8 pairs for each rank
    fit(Model(folder=tmp_path), module, max_epochs=2, devices=2, strategy="ddp_fork")
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    module.setup("fit")
    for epoch, batches in enumerate(epochs(module, 2)):
        expected = sorted(float(source.sum()) for batch in batches for source in batch.source)
        shares = [
            [float(one.sum()) for when, batch in seen if when == epoch for one in batch] for seen in ranks
        ]
        assert [len(share) for share in shares] == [8, 8]
        assert sorted(shares[0] + shares[1]) == pytest.approx(expected)


def test_it_needs_no_more_than_a_trainer(fake_clips: Path, latents: LatentCache, tmp_path: Path) -> None:
    options = {"task": "motion_windows", "batch_size": 3}
    module = TalkingHeadDataModule(fake_clips, 16, latents=latents.folder, **options)
    assert fit(Model("motion"), module, max_epochs=1).seen[0][1].shape == (3, 65, 5)
    for root, folder, message in (
        (fake_clips, None, f"make them by `ifmdm encode autoencoder=RUN data.root={fake_clips}"),
        (fake_clips, tmp_path / "none", "no latents there; make them by `ifmdm encode"),
        (fake_clips, tmp_path, "fake0 are missing; run `ifmdm encode` again"),
        (tmp_path / "absent", None, "no prepared clips there; they come from any videos, by `ifmdm prepare"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            fit(Model("motion"), TalkingHeadDataModule(root, 16, latents=folder, **options), max_epochs=1)
        assert "\n" not in str(caught.value)


def window_module(root: Path, latents: LatentCache, **options) -> TalkingHeadDataModule:
    settings = {"batch_size": 3, "windows_per_clip": 6, "latents": latents.folder, **options}
    module = TalkingHeadDataModule(root, 16, "motion_windows", **settings)
    module.setup("fit")
    return module


def test_windows_fit_together(fake_clips: Path, latents: LatentCache) -> None:
    starts = set()
    for batch in epochs(window_module(fake_clips, latents), 2)[1]:
        assert isinstance(batch, MotionWindowBatch)
        assert batch.motion.shape == (3, 65, 5)
        assert batch.audio.shape == (3, 128, 3)
        assert batch.appearance.shape == (3, 8)
        assert batch.valid.shape == (3, 64)
        assert batch.has_previous.dtype == torch.bool
        for motion, audio, source, look, valid in zip(*batch[:4], batch.valid, strict=True):
            times = motion[:, 0]  # the stand-in's first coefficient is the frame number
            start = int(times[0])
            starts.add(start)
            frames = 90 if valid.all() else 50
            assert torch.equal(times, torch.arange(start, start + 65).clamp(max=frames - 1).float())
            assert torch.equal(valid, torch.arange(start + 1, start + 65) < frames)
            assert torch.equal(audio[0::2, 0], 2 * times[1:])
            assert torch.equal(audio[1::2, 0], 2 * times[1:] + 1)
            assert source[0] == look[0]
            outside = source[0] < start or source[0] >= start + 65
            assert outside if frames > 65 else source[0] == 0
    assert len(starts) > 5


def test_window_sampling_is_reproducible(fake_clips: Path, latents: LatentCache) -> None:
    alone, helped = (epochs(window_module(fake_clips, latents, num_workers=n), 2) for n in (0, 2))
    assert same(alone[1], helped[1])
    assert not same(alone[0], alone[1])
    first, second = epochs(window_module(fake_clips, latents), 2, "val")
    assert same(first, second)
    assert [batch.motion[:, 0, 0].tolist() for batch in first] == [[0.0]]  # one whole window in 90 frames


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "poems"}, "unknown"),
        ({"splits": "nowhere.csv"}, "nowhere.csv: no such splits; .* or one of hdtf-test-v1"),
        ({"blink_share": 0.6, "mouth_share": 0.5}, "shares of the same pairs"),
        ({"blink_share": -0.1, "mouth_share": 0.5}, "shares of the same pairs"),
        ({"mouth_share": 1.1}, "shares of the same pairs"),
    ],
)
def test_wrong_settings_are_user_errors(fake_clips: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TalkingHeadDataModule(fake_clips, 16, **options)


def test_training_windows_may_be_heard_in_other_voices(fake_clips: Path, tmp_path: Path) -> None:
    def encode_sound(frames: np.ndarray, waveform: np.ndarray) -> dict[str, torch.Tensor]:
        return encode(frames, waveform) | {"audio": log_mel(torch.from_numpy(waveform)[None])[0]}

    latents = build_latents(read_manifest(fake_clips), fake_clips, tmp_path, encode_sound)
    plain, other = (epochs(window_module(fake_clips, latents, augment=a), 1)[0] for a in (False, True))
    for one, two in zip(plain, other, strict=True):
        assert torch.equal(one.motion, two.motion)
        assert not torch.allclose(one.audio, two.audio, atol=0.1)
    judged = (epochs(window_module(fake_clips, latents, augment=a), 1, "val") for a in (False, True))
    assert same(*(batches[0] for batches in judged))


def test_clips_of_other_folders_join_the_training_pairs_alone(fake_clips: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(fake_clips, other)
    records = read_manifest(other)
    write_manifest(other, [dataclasses.replace(one, identity=f"other_{one.identity}") for one in records])
    for one in records:
        write_video(other / one.video, np.full((one.frames, 32, 32, 3), 200, np.uint8))
    plain, joined = pair_module(fake_clips), pair_module(fake_clips, also=[other, other])
    (before,), (after,) = epochs(plain, 1), epochs(joined, 1)
    assert (len(before), len(after)) == (3, 9)  # 4 clips of 4 pairs; 12 clips of 4 pairs
    blank = torch.cat([pair.source.std(dim=(1, 2, 3)) < 0.1 for pair in after])
    assert blank.float().mean() == pytest.approx(2 / 3, abs=0.1)
    assert same(epochs(plain, 1, "val")[0], epochs(joined, 1, "val")[0])
    with pytest.raises(UserError, match="frame pairs"):
        TalkingHeadDataModule(fake_clips, 16, task="motion_windows", also=[other])
    write_manifest(other, [dataclasses.replace(one, split="test") for one in records])
    with pytest.raises(UserError, match=r"other/manifest.jsonl: no clips in the split 'train'"):
        pair_module(fake_clips, also=[other])


def test_pairs_made_on_the_trainings_device_are_those_that_loaders_make(fake_clips: Path) -> None:
    words = {"deform": 1.0, "degrade": 1.0, "backdrop": 0.5, "blink_share": 0.3, "mouth_share": 0.3}
    plain, held = (
        pair_module(fake_clips, **words),
        pair_module(fake_clips, **words, on_device=True, num_workers=2),
    )
    dataset = held.train_dataloader().dataset
    assert (plain.train_dataloader().dataset.device, dataset.device) == (None, torch.device("cpu"))
    assert held.train_dataloader().num_workers == 0
    assert same(epochs(plain, 2)[1], epochs(held, 2)[1])
    frames = dataset.frames.get(dataset.records[0], np.array([3, 1]))
    assert (frames.dtype, frames.shape) == (torch.uint8, (2, 3, 16, 16))
