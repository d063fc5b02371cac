"""Speeches that are heard and not drawn: what their latents are, when they are made anew, how they are served."""

import dataclasses
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.clips.annotations import write_annotations
from datamodules.clips.clip_store import ClipStore
from datamodules.clips.dataset_folder import SETTINGS_NAME, make_dataset_folder
from datamodules.clips.datasets import MotionWindowDataset
from datamodules.clips.manifest import ClipRecord, read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.latent_writing import stored_latents, write_shard
from datamodules.latents import LatentCache
from datamodules.synthetic_faces import undrawn
from datamodules.synthetic_faces.clips import perform
from datamodules.synthetic_faces.motion.controls import CONTROL_NAMES
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.undrawn import (
    MotionMap,
    Person,
    Speech,
    about_mean,
    undrawn_settings,
    write_undrawn,
)
from datamodules.talking_head import TalkingHeadDataModule
from lightning_modules.networks.motion_basis import bent, straightened

WEIGHTS = torch.randn(len(CONTROL_NAMES), 4, generator=torch.Generator().manual_seed(0))


def hear(waveform: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(waveform).view(-1, SAMPLES_PER_FRAME // 2).mean(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of train, one of val, one of test, of which there are settings and controls, and no pictures."""
    folder = tmp_path_factory.mktemp("drawn")
    settings = Settings(10, 32, seed=5, identities=10, seconds=(5.0, 5.5), domain="plain")
    make_dataset_folder(folder, settings.to_dict())
    records = []
    for plan in plan_clips(settings):
        performance, name = perform(plan, settings), plan.clip_id
        controls = performance.animation.controls.values.astype(np.float32)
        write_annotations(folder / f"clips/{name}.safetensors", {"controls": controls}, {})
        files = (f"clips/{name}.mp4", f"clips/{name}.wav", f"hash of {name}")
        of_whom = (f"synthetic_5_{plan.seen:05d}", performance.narration.voice.name, plan.split, "drawn")
        frames = (0.0, len(controls), 32)
        records.append(ClipRecord(name, *files, *of_whom, *frames, annotations=f"clips/{name}.safetensors"))
    write_manifest(folder, records)
    return folder


@pytest.fixture(scope="module")
def records(root: Path) -> list[ClipRecord]:
    return [record for record in read_manifest(root) if record.split == "train"]


def drawn(root: Path, records: list[ClipRecord], folder: Path, size: float) -> LatentCache:
    """Latents whose motion, before it is bent, is the controls by ``size`` and `WEIGHTS`, above a mean of each clip's own."""
    tensors, contents = dict[str, torch.Tensor](), {}
    for number, record in enumerate(records):
        assert record.annotations is not None
        controls = load_file(root / record.annotations)["controls"]
        latents = {
            "motion": bent(size * about_mean(controls) @ WEIGHTS + 0.01 * number),
            "appearance": torch.full((record.frames, 3), float(number)),
            "audio": torch.zeros(2 * record.frames, 1),
        }
        tensors |= stored_latents(record.id, latents, record.frames)
        contents[record.id] = (record.sha256, record.frames)
    write_shard(folder, tensors, contents)
    return LatentCache(folder)


@pytest.fixture
def cache(root: Path, records: list[ClipRecord], tmp_path: Path) -> LatentCache:
    """Of small motion, which is hardly bent."""
    return drawn(root, records, tmp_path, 0.01)


def test_a_speech_moves_a_person_as_the_clips_are_moved(root, records, cache, monkeypatch) -> None:
    monkeypatch.setattr(undrawn, "SILENT_SHARE", 0.0)
    fitted = MotionMap.fit(records, ClipStore(root), cache, straightened, bent)
    assert fitted.share > 0.99
    write_undrawn(root, cache.folder, fitted, hear, 3, workers=0)
    made, settings = LatentCache(cache.folder), undrawn_settings(root, 3)
    plans = [plan for plan in plan_clips(settings) if plan.split == "train"]
    for plan, (name, frames) in zip(plans, made.undrawn(fitted.key).items(), strict=False):
        performance, latents = perform(plan, settings), made.load(name)
        controls = torch.from_numpy(performance.animation.controls.values).float()
        assert len(controls) == frames
        torch.testing.assert_close(
            latents["audio"].float(), hear(performance.narration.waveform), atol=1e-3, rtol=0
        )
        person = float(latents["appearance"][0, 0])
        assert (latents["appearance"] == person).all()
        wanted = 0.01 * about_mean(controls) @ WEIGHTS
        found = latents["motion"].float() - 0.01 * person
        assert (found - wanted).square().mean() < 0.2 * wanted.square().mean()
    voices = {perform(plan, settings).narration.voice.name for plan in plans[:3]}
    assert len(voices) == 3
    assert not {record.identity for record in records} & {
        f"synthetic_{settings.seed}_{plan.seen:05d}" for plan in plans
    }


def test_motion_that_nears_what_coefficients_reach_moves_no_further_than_the_clips(
    root, records, tmp_path, monkeypatch
) -> None:
    """Told by coefficients themselves, it went beyond their ends, and came back as coordinates several times as large."""
    monkeypatch.setattr(undrawn, "SILENT_SHARE", 0.0)
    cache = drawn(root, records, tmp_path, 0.2)
    fitted = MotionMap.fit(records, ClipStore(root), cache, straightened, bent)
    write_undrawn(root, cache.folder, fitted, hear, 8, workers=0)
    made = LatentCache(cache.folder)
    few, many = (
        [made.load(name)["motion"].float() for name in names]
        for names in ([record.id for record in records], made.undrawn(fitted.key))
    )
    assert max(float(motion.abs().max()) for motion in few) > 0.9
    sizes = [
        torch.stack([straightened(motion).std(dim=0) for motion in motions]).mean() for motions in (few, many)
    ]
    assert 0.6 < float(sizes[1] / sizes[0]) < 1.6


def test_in_some_speeches_nobody_speaks_for_a_while_and_mouths_are_shut(root, monkeypatch) -> None:
    settings = undrawn_settings(root, 8)
    plans = [plan for plan in plan_clips(settings) if plan.split == "train"]
    jaw, yaw = CONTROL_NAMES.index("jaw_open"), CONTROL_NAMES.index("yaw")
    monkeypatch.setattr(undrawn, "SILENT_SHARE", 1.0)
    for alone in (False, True):
        monkeypatch.setattr(undrawn, "ALONE", float(alone))
        for plan in plans[:4]:
            speech = Speech.of(plan, settings)
            frames = speech.waveform.reshape(-1, SAMPLES_PER_FRAME)
            assert len(frames) == len(speech.controls) == len(speech.spoken)
            inside = speech.spoken < 0.01
            assert inside.all() == alone
            assert undrawn.SILENCE[0] - 1 <= inside.sum() / FPS <= undrawn.SILENCE[1]
            assert np.abs(frames[inside]).max() < (1e-3 if alone else 0.02)  # echoes
            inner = speech.controls[inside][10:-10]  # lips shut and part a little later and sooner
            mouth, head = inner[:, jaw], inner[:, yaw]
            assert mouth.std() < 1e-3
            assert head.std() > 0.1
            assert mouth.max() < 0  # less open than on average while somebody speaks
            if not alone:
                loud = np.abs(frames[speech.spoken > 0.99])
                assert loud.max() > 0.05
                assert speech.controls[speech.spoken > 0.99][:, jaw].std() > 10 * mouth.std()


def test_as_much_of_what_the_map_leaves_is_there_as_is_spoken() -> None:
    person = Person(torch.ones(2), torch.ones(4, 2), torch.zeros(4, 1))
    motion, _ = person.moved(torch.zeros(3, 2), torch.tensor([1.0, 0.5, 0.0]), np.random.default_rng(0))
    assert motion[:, 0].tolist() == [2.0, 1.5, 1.0]


@pytest.mark.parametrize("count", [1, 8, 9, 10, 17])
def test_there_are_as_many_training_voices_as_speeches_are_asked_for(root, count) -> None:
    plans = plan_clips(undrawn_settings(root, count))
    assert sum(plan.split == "train" for plan in plans) >= count


def test_what_is_there_is_kept_until_the_clips_are_others(root, records, cache) -> None:
    def shards() -> set[str]:
        return {path.name for path in cache.shards()}

    fitted = MotionMap.fit(records, ClipStore(root), cache, straightened, bent)
    write_undrawn(root, cache.folder, fitted, hear, 2, workers=0)
    first, before = shards(), LatentCache(cache.folder).load("undrawn2_000001")["motion"].clone()
    write_undrawn(root, cache.folder, fitted, hear, 2, workers=0)
    assert shards() == first
    write_undrawn(root, cache.folder, fitted, hear, 3, workers=0)
    more = LatentCache(cache.folder)
    assert list(more.undrawn(fitted.key)) == ["undrawn2_000000", "undrawn2_000001", "undrawn2_000002"]
    assert torch.equal(more.load("undrawn2_000001")["motion"], before)
    fewer = MotionMap.fit(records[1:], ClipStore(root), cache, straightened, bent)
    write_undrawn(root, cache.folder, fewer, hear, 2, workers=0)
    assert len(LatentCache(cache.folder).undrawn(fewer.key)) == 2


def test_speeches_of_other_clips_are_neither_counted_nor_served(root, records, cache) -> None:
    """Those of other training clips have taken the first names."""
    fitted, others = (
        MotionMap.fit(some, ClipStore(root), cache, straightened, bent) for some in (records, records[1:])
    )
    write_undrawn(root, cache.folder, fitted, hear, 3, workers=0)
    write_undrawn(root, cache.folder, others, hear, 1, workers=0)
    mixed = LatentCache(cache.folder)
    assert [name for name, _ in mixed.first_undrawn(2, records)] == ["undrawn2_000001", "undrawn2_000002"]
    assert [name for name, _ in mixed.first_undrawn(1, records[1:])] == ["undrawn2_000000"]
    for count, some in ((3, records), (2, records[1:]), (1, records[2:])):
        with pytest.raises(UserError, match=rf"run `ifmdm encode` with data.undrawn={count}$"):
            mixed.first_undrawn(count, some)
    write_undrawn(root, cache.folder, fitted, hear, 3, workers=0)
    assert len(LatentCache(cache.folder).first_undrawn(3, records)) == 3


def killed(*told: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_in_a_line(root, records, cache, monkeypatch) -> None:
    monkeypatch.setattr(undrawn, "_speak", killed)
    fitted = MotionMap.fit(records, ClipStore(root), cache, straightened, bent)
    with pytest.raises(UserError, match=r"^[^\n]*a speaking process died[^\n]*$"):
        write_undrawn(root, cache.folder, fitted, hear, 2, workers=1)
    assert not LatentCache(cache.folder).undrawn(fitted.key)


def test_what_the_map_leaves_goes_on_there_and_back() -> None:
    rest = torch.arange(5.0)[:, None]
    person = Person(torch.zeros(1), rest, 10 + rest)
    motion, appearance = person.moved(torch.zeros(23, 1), torch.ones(23), np.random.default_rng(0))
    assert motion.diff(dim=0).abs().max() <= 1
    assert set(motion.flatten().tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert torch.equal(appearance, 10 + motion)


def test_each_speech_gives_one_window_beside_those_of_the_clips(root, records, cache) -> None:
    fitted = MotionMap.fit(records, ClipStore(root), cache, straightened, bent)
    val = [record for record in read_manifest(root) if record.split == "val"]
    zeros = {}
    for record in val:
        still = {"motion": (1, 4), "appearance": (1, 3), "audio": (2, 1)}
        latents = {name: torch.zeros(record.frames * rows, width) for name, (rows, width) in still.items()}
        zeros |= stored_latents(record.id, latents, record.frames)
    write_shard(cache.folder, zeros, {record.id: (record.sha256, record.frames) for record in val})
    write_undrawn(root, cache.folder, fitted, hear, 4, workers=0)

    def module(undrawn: int) -> TalkingHeadDataModule:
        made = TalkingHeadDataModule(
            root, 32, "motion_windows", 2, windows_per_clip=3, latents=cache.folder, undrawn=undrawn
        )
        made.setup("fit")
        return made

    assert len(module(4)._datasets["train"]) == 3 * len(records) + 4
    assert len(module(0)._datasets["train"]) == 3 * len(records)
    assert len(module(4)._datasets["val"]) == len(module(0)._datasets["val"])
    batch = next(iter(module(4).train_dataloader()))
    assert batch.motion.shape == (2, 65, 4)
    with pytest.raises(UserError, match=r"has 4 speeches of those .*, made from these 8 .* data.undrawn=5"):
        module(5)


def test_longer_speeches_lie_beside_the_others_and_give_windows_that_have_one_before(
    root, records, cache, monkeypatch
) -> None:
    monkeypatch.setattr(undrawn, "SILENT_SHARE", 0.0)
    fitted = MotionMap.fit(records, ClipStore(root), cache, straightened, bent)
    write_undrawn(root, cache.folder, fitted, hear, 2, workers=0)
    write_undrawn(root, cache.folder, fitted, hear, 3, (12.0, 13.0), workers=0)
    made = LatentCache(cache.folder)
    assert len(made.undrawn(fitted.key)) == 2
    longer = made.first_undrawn(3, records, (12.0, 13.0))
    assert [name for name, _ in longer] == [f"undrawn2_12-13s_00000{number}" for number in range(3)]
    assert all(250 < frames < 350 for _, frames in longer)
    for count, seconds, told in ((3, None, "3"), (1, (12.0, 14.0), r"1 data.undrawn_seconds=\[12,14\]")):
        with pytest.raises(UserError, match=f"with data.undrawn={told}$"):
            made.first_undrawn(count, records, seconds)
    windows = MotionWindowDataset(
        made, [dataclasses.replace(records[0], id=name, frames=frames) for name, frames in longer], 20
    )
    before = [bool(windows[0, k].previous.isfinite().all()) for k in range(len(windows))]
    assert sum(before) > 0.5 * len(before)
    for wrong in ([8.0], [12.0, 8.0], [0.0, 1.0], ["8", "12"], [8.0, math.inf]):
        with pytest.raises(UserError, match=r"data.undrawn_seconds="):
            TalkingHeadDataModule(root, 32, "motion_windows", undrawn=1, undrawn_seconds=wrong)
    with pytest.raises(UserError, match=r"give data.undrawn=N"):
        TalkingHeadDataModule(root, 32, "motion_windows", undrawn_seconds=[8.0, 12.0])


def test_only_synthetic_heads_can_say_more(fake_clips, root, records, cache, tmp_path) -> None:
    with pytest.raises(UserError, match=r"dataset.json: tells of no synthetic heads of this version"):
        undrawn_settings(fake_clips, 3)
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / SETTINGS_NAME).write_text(
        (root / SETTINGS_NAME).read_text().replace('"version": ', '"version": 1')
    )
    with pytest.raises(UserError, match=r"tells of no synthetic heads of this version"):
        undrawn_settings(folder, 3)
    with pytest.raises(UserError, match=r"data.undrawn=-1: is no number of speeches"):
        undrawn_settings(root, -1)
    plain = [record for record in read_manifest(fake_clips) if record.split == "train"]
    with pytest.raises(UserError, match=r"has no controls among its annotations"):
        MotionMap.fit(plain, ClipStore(fake_clips), cache, straightened, bent)
    with pytest.raises(UserError, match=r"frames are too few to tell motion from controls"):
        MotionMap.fit(records[:1], ClipStore(root), cache, straightened, bent)
