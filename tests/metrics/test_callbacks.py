"""Metric callbacks: values by hand, processes, epochs, absent judges, sample videos, and a training that notices nothing."""

import csv
import io
import json
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from torch import Tensor, nn

from datamodules.batches import FramePairBatch, WholeClip
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.video import read_video
from datamodules.talking_head import TalkingHeadDataModule
from lightning_modules.callbacks.autoencoder_pictures import SamplePictures
from lightning_modules.callbacks.clip_rendering import GeneratedClips, ReconstructedClips
from metrics.callbacks import ClipMetrics, MetricCallback, PictureMetrics
from metrics.evaluation.clip_measures import measure_clip
from metrics.evaluation.clip_results import ROW_FAMILIES
from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.judges import Judges, SyncNetJudge, load_training_judges, motion_judges
from metrics.evaluation.loading import RenderedClip
from metrics.evaluation.protocol import get_protocol
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance
from metrics.fvd import FrechetVideoDistance
from metrics.judges.frame_regressor import FrameRegressor
from metrics.judges.syncnet import SyncNet
from metrics.lpips import LPIPS
from metrics.sync import SyncSettings

FRAMES = 60
LSE = "val/lse_d, val/lse_c"
CLIP_NAMES = ["fid", "kid", "fvd", "psnr", "sharpness", "lse_d", "lse_c", "av_offset"]
CLIP_NAMES += ["head_motion", "mouth_motion", "blink_rate", "jitter", "head_velocity_distance"]


class SmallNetwork(nn.Module):
    """Brightness of the quarters; a heavy weight that must not get into checkpoints, a norm that must not be in training.

    Few features that vary: roots of eigenvalues that are nothing but rounding would differ between processes.
    """

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.heavy = nn.Parameter(torch.zeros(500_000))

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(nn.functional.adaptive_avg_pool2d(images.float().mean(dim=1), 2).flatten(1))


class SmallVideoNetwork(SmallNetwork):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(dim=1)


class SmallDistance(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).square().mean(dim=(1, 2, 3))


class Fader(LightningModule):
    """Fades the source towards the driving frame; its training draws random numbers of every kind."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.2))
        self.frozen = nn.Linear(2, 2).eval()  # a part that stays in evaluation mode
        self.rate = rate

    def fade(self, source: Tensor, driving: Tensor) -> Tensor:
        return source + self.share * (driving - source)

    def training_step(self, batch: FramePairBatch, batch_idx: int) -> Tensor:
        assert self.training
        assert not self.frozen.training
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        return (self.fade(batch.source, batch.driving) - noise * batch.driving).square().mean()

    def validation_step(self, batch: FramePairBatch, batch_idx: int) -> dict[str, Tensor]:
        self.log("val/loss", self.share.detach().clone(), sync_dist=True)
        return {"frame": self.fade(batch.source, batch.driving)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class FadedClips:
    """Renders a clip by fading its first frame towards each; uses up random numbers, and counts."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    def __call__(self, module: Any, clip: WholeClip) -> Tensor:
        torch.rand(3), random.random(), np.random.rand()
        assert not module.training
        self.seen.append((clip.name, float(module.share.detach())))
        frames = clip.frames.float()
        return module.fade(frames[:1], frames).round().clamp(0, 255).to(torch.uint8)


def small_judges(slots: Any = (), protocol: Any = None) -> Judges:
    """Untrained judges of every slot that needs no landmarks."""
    torch.manual_seed(0)
    judges = motion_judges(FrameRegressor(width=4, features=8).eval())
    judges.sync = SyncNetJudge(SyncNet(0.05, 51, (0.1, 0.3, 0.9, 1.0)), boxes=False)
    judges.inception, judges.i3d, judges.lpips = SmallNetwork(), SmallVideoNetwork(), SmallDistance()
    judges.hashes |= dict.fromkeys(("sync", "inception", "i3d", "lpips"), "0" * 64)
    return judges


def without(*absent: str) -> Callable[..., Judges]:
    """Judges of which some are absent."""

    def load(slots: Any, protocol: Any) -> Judges:
        judges = small_judges()
        judges.absent |= {slot: f"{slot}.pth: not found; `ifmdm assets fetch {slot}.pth`" for slot in absent}
        return judges

    return load


def clip_metrics(measures: list[str] | None = None, *options: Any, **named: Any) -> ClipMetrics:
    """The callback on whole clips with small judges."""
    named = {"render": FadedClips(), "judges": small_judges, "protocol": "synthetic-v2", **named}
    return ClipMetrics(CLIP_NAMES if measures is None else measures, named.pop("render"), *options, **named)


def pair_metrics(**named: Any) -> PictureMetrics:
    """The callback on pairs with small judges."""
    return PictureMetrics(["fid", "lpips", "psnr"], **{"judges": small_judges, **named})


@pytest.fixture
def data(fake_clips: Path, tmp_path: Path) -> Callable[..., TalkingHeadDataModule]:
    """Builds a DataModule with so many of the six clips in validation."""

    def build(validation: int = 3, **options: Any) -> TalkingHeadDataModule:
        names = [(f"person{i}", "val" if i < validation else "train") for i in range(6)]
        rows = "".join(f"{name},{split}\n" for name, split in names)
        (tmp_path / "splits.csv").write_text("identity,split\n" + rows)
        settings = {"batch_size": 4, "pairs_per_clip": 3, "splits": tmp_path / "splits.csv", **options}
        return TalkingHeadDataModule(fake_clips, 32, **settings)

    return build


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Gives what the callbacks warned of since it was asked last."""
    caplog.set_level(logging.WARNING, logger="metrics.callbacks")

    def told() -> list[str]:
        messages = [record.message for record in caplog.records if record.name == "metrics.callbacks"]
        caplog.clear()
        return messages

    return told


def trainer_of(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    settings = {"logger": False, "max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False}
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=list(callbacks),
        **{"devices": 1, **settings, **options},
    )


def validated(
    folder: Path, source: Any, *callbacks: Callback, module: Any = None, **options: Any
) -> dict[str, float]:
    """What a validation logged."""
    trainer = trainer_of(folder, *callbacks, **options)
    trainer.validate(module or Fader(), source, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


class Told(Callback):
    """Writes down what every process logged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        path = self.folder / f"rank{trainer.global_rank}_epoch{trainer.current_epoch}.json"
        path.write_text(json.dumps(values))


def test_clips_give_what_an_evaluation_gives(data, tmp_path):
    module, source, protocol = Fader(), data(), get_protocol("synthetic-v2")
    callback = clip_metrics(None, 2, FRAMES)
    found = validated(tmp_path, source, callback, module=module)

    clips = [source.whole_clip(record, FRAMES) for record in source.records("val")[:2]]
    rendered = [FadedClips()(module.eval(), clip).detach() for clip in clips]
    judges, expected = small_judges(), {}
    for name, metric in (
        ("fid", FrechetInceptionDistance(SmallNetwork())),
        ("kid", KernelInceptionDistance(SmallNetwork())),
        ("fvd", FrechetVideoDistance(SmallVideoNetwork())),
    ):
        for side, real in (([clip.frames for clip in clips], True), (rendered, False)):
            for frames in side:
                metric.update(frames.unfold(0, 16, 1).movedim(-1, 1) if name == "fvd" else frames, real=real)
        expected[name] = float(metric.compute())
    values: dict[str, list[float]] = {}
    for made, clip in zip(rendered, clips, strict=True):
        real, row = (frames.permute(0, 2, 3, 1).numpy() for frames in (clip.frames, made))
        whole = RenderedClip(
            ClipFiles(clip.name, Path(), Path(), (), "", ""),
            real,
            {"generated": (row,)},
            clip.waveform.numpy(),
        )
        judged, _ = measure_clip(whole, judges, protocol, ROW_FAMILIES["generation"])
        aligned, _ = measure_clip(whole, judges, protocol, ROW_FAMILIES["reconstruction"])
        for name, value in {**judged.values, **aligned.values}.items():
            values.setdefault(name, []).append(value)
    expected |= {name: np.mean(values[name]) for name in CLIP_NAMES if name in values}
    expected["av_offset"] = np.median(values["av_offset"])
    assert {*CLIP_NAMES} - {*expected} == {"head_velocity_distance"}
    assert expected["fid"] > 1e-3
    for name, value in expected.items():
        assert found[f"val/{name}"] == pytest.approx(value, rel=1e-5, abs=1e-9), name
    assert found["val/head_velocity_distance"] > 0
    assert {len(clip.frames) for clip in clips} == {FRAMES}
    assert {clip.name for clip in clips} == {name for name, _ in callback.render.seen}


def test_pairs_give_what_the_metrics_give_by_hand(data, tmp_path):
    module, source = Fader(), data()
    found = validated(tmp_path, source, pair_metrics(), module=module)
    fid, lpips = FrechetInceptionDistance(SmallNetwork()), LPIPS(SmallDistance())
    for batch in source.val_dataloader():
        frames = module.fade(batch.source, batch.driving).detach()
        fid.update(batch.driving, real=True)
        fid.update(frames, real=False)
        lpips.update(frames, batch.driving)
    for name, metric in (("fid", fid), ("lpips", lpips)):
        assert found[f"val/{name}"] == pytest.approx(float(metric.compute()), rel=1e-5)


@pytest.mark.parametrize("validation", [1, 3])
def test_two_processes_give_what_one_gives(validation, data, tmp_path):
    """With one clip the second process has none; three clips of three pairs leave it one pair fewer."""
    found = []
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        folder = tmp_path / f"devices{devices}"
        folder.mkdir()
        clips, pairs = clip_metrics(max_frames=FRAMES), PictureMetrics(["lpips"], small_judges)
        validated(folder, data(validation), clips, pairs, Told(folder), devices=devices, strategy=strategy)
        told = [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]
        assert len(told) == devices
        found += told
    assert {f"val/{name}" for name in (*CLIP_NAMES, "lpips")} <= set(found[0])
    for other in found[1:]:
        for name, value in found[0].items():
            assert other[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_a_training_with_callbacks_is_the_same_training(data, tmp_path):
    states, sizes, modes = [], [], []
    for judged in (False, True):
        seed_everything(3, verbose=False)
        folder = tmp_path / f"judged{judged}"
        callbacks: list[Callback] = [ModelCheckpoint(folder, "last", enable_version_counter=False)]
        if judged:
            callbacks += [clip_metrics(max_frames=FRAMES), pair_metrics()]
        options = {"max_epochs": 2, "enable_checkpointing": True, "num_sanity_val_steps": 1}
        module = Fader()
        trainer_of(folder, *callbacks, **options).fit(module, data())
        states.append(module.state_dict())
        modes.append([part.training for part in module.modules()])
        sizes.append((folder / "last.ckpt").stat().st_size)
        checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
        assert checkpoint["state_dict"].keys() == Fader().state_dict().keys()
        for callback in callbacks[1:]:
            assert isinstance(callback, MetricCallback)
            assert callback.live is not None
            assert len(callback.live.metrics) in (3, len(CLIP_NAMES))
            for metric in callback.live.metrics.values():
                assert metric.update_count == 0
                for name, default in metric._defaults.items():
                    state = getattr(metric, name)
                    filled = sum(map(len, state)) if isinstance(state, list) else (state != default).any()
                    assert not filled, name
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert float(states[0]["share"]) != Fader().share
    assert modes[0] == modes[1]
    assert sizes[1] - sizes[0] < 10_000  # SmallNetwork alone has 2 MB


def test_every_third_epoch_with_a_monitor_and_resumed(data, tmp_path):
    """Judged are the first validation and each one three epochs on, the count going on in a resumed training."""

    def fit(folder: Path, epochs: int, resume: Path | None = None) -> list[int]:
        """Epochs in which a value was logged."""
        best = ModelCheckpoint(folder, "best", monitor="val/fid", enable_version_counter=False)
        last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=False, enable_version_counter=False)
        callback, logger = clip_metrics(["fid"], 2, 8, every_n_epochs=3), CSVLogger(folder, "csv", "")
        folder.mkdir()
        options = {"max_epochs": epochs, "enable_checkpointing": True, "logger": logger}
        trainer = trainer_of(folder, callback, best, last, Told(folder), num_sanity_val_steps=2, **options)
        trainer.fit(Fader(), data(), ckpt_path=resume, weights_only=True)
        assert trainer.current_epoch == epochs
        with (folder / "csv" / "metrics.csv").open() as file:
            judged = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/fid"]]
        assert len(callback.render.seen) == 2 * len(judged)  # none for the sanity check
        return judged

    assert fit(tmp_path / "first", 5) == [0, 3]
    epochs = [tmp_path / f"first/rank0_epoch{epoch}.json" for epoch in range(5)]
    told = [json.loads(path.read_text())["val/fid"] for path in epochs]
    assert told[0] == told[1] == told[2] != told[3] == told[4]
    best = torch.load(tmp_path / "first/best.ckpt", weights_only=True)["epoch"]
    assert best == (0 if told[0] < told[3] else 3)
    assert fit(tmp_path / "second", 8, tmp_path / "first/last.ckpt") == [6]
    at_once = json.loads((tmp_path / "second/rank0_epoch5.json").read_text())
    assert at_once["val/fid"] == pytest.approx(told[4])  # there for the monitor, though not judged anew


@pytest.mark.parametrize("after", [False, True])
def test_averaged_weights_are_judged_in_any_order(after, data, tmp_path):
    render, average = FadedClips(), EMAWeightAveraging(decay=0.5)
    callback = clip_metrics(["fid"], 1, 8, render=render)
    module, log = Fader(), CSVLogger(tmp_path, "csv", "")
    callbacks = [average, callback] if after else [callback, average]
    trainer = trainer_of(tmp_path, *callbacks, logger=log, limit_train_batches=2)
    running: list[float] = []
    module.on_train_epoch_end = lambda: running.append(float(module.share))
    trainer.fit(module, data())
    assert render.seen[0][1] == pytest.approx(float(trainer.callback_metrics["val/loss"]))
    assert render.seen[0][1] != pytest.approx(running[0])


def test_absent_judges_are_named_once_and_the_rest_is_judged(data, tmp_path, warned):
    callback = PictureMetrics(["fid", "kid", "lpips", "psnr"], without("inception", "lpips"))
    trainer = trainer_of(tmp_path, callback)
    trainer.fit(Fader(), data())
    (warning,) = warned()
    for told in ("val/fid, val/kid: inception.pth: not found", "val/lpips: lpips.pth: not found"):
        assert told in warning
    assert warning.count("`ifmdm assets fetch ") == 2
    assert "val/psnr" in trainer.callback_metrics
    assert not {"val/fid", "val/lpips"} & set(trainer.callback_metrics)


@pytest.mark.parametrize("required", [True, False])
def test_a_required_or_monitored_judge_is_refused_before_training(required, data, tmp_path):
    monitor = [] if required else [ModelCheckpoint(tmp_path, monitor="val/lse_d")]
    message = f"required, but can't be measured: {LSE}: " if required else "val/lse_d is monitored"
    callback = clip_metrics(["lse_d", "lse_c"], judges=without("sync"), required=required)
    with pytest.raises(UserError, match=f"{message}.*ifmdm assets fetch sync.pth") as caught:
        trainer_of(tmp_path, callback, *monitor, enable_checkpointing=not required).fit(Fader(), data())
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_assets")
@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({}, ["inception", "lpips", "i3d", "sync", "motion", "embedder", "landmarks"]),
        ({"sync": "expert"}, ["inception", "lpips", "i3d", "motion", "embedder", "landmarks"]),
        ({"motion": "regressor", "sync": "nowhere"}, ["inception", "lpips", "i3d", "motion", "sync"]),
    ],
)
def test_judges_that_cannot_be_loaded_are_told(settings, absent, tmp_path):
    slots = ["inception", "lpips", "i3d", "sync", "motion", "embedder", "landmarks"]
    judges = load_training_judges(slots, get_protocol("talking-head-v2"), root=tmp_path, **settings)
    assert set(absent) <= set(judges.absent)
    assert ("sync" in judges.absent) is ("sync" in absent)
    for slot, command in (("inception", "pt_inception"), ("lpips", "alexnet"), ("i3d", "i3d_torchscript")):
        assert f"ifmdm assets fetch {command}" in judges.absent[slot]
    assert not load_training_judges([], get_protocol("talking-head-v2")).absent.keys() & {"inception", "sync"}


LOST = f"this training will not measure {LSE}: "
CUT = "max_frames={0} cuts all clips to fewer than {1} frames; use {1} or more"


@pytest.mark.parametrize(
    ("minimum", "validation", "max_frames", "told"),
    [
        (50, 6, None, []),
        (80, 6, None, [f"1 of 6 clips have fewer than 80 frames and are not judged for {LSE}"]),
        # more of each clip would not help
        (
            100,
            6,
            None,
            [LOST + "6 of 6 clips have fewer than 100 frames, the longest 90; judge longer validation clips"],
        ),
        (50, 3, 49, [LOST + CUT.format(49, 50)]),
        (50, 3, 7, [f"{LOST}{CUT.format(7, 50)}; val/fvd: {CUT.format(7, 16)}"]),
    ],
)
def test_clips_too_short_for_a_judge_are_told(minimum, validation, max_frames, told, data, tmp_path, warned):
    measures = ["lse_d", "lse_c", "psnr", *(["fvd"] if max_frames == 7 else [])]
    callback = clip_metrics(measures, 6, max_frames, videos=0)
    callback.protocol = replace(callback.protocol, sync=SyncSettings(minimum_frames=minimum))
    found = validated(tmp_path, data(validation), callback)
    assert warned() == told
    assert np.isfinite(found["val/psnr"])
    if minimum == 80:
        assert np.isfinite(found["val/lse_d"])  # of the five others; the last one has 50


def test_required_measures_of_clips_too_short_are_refused(data, tmp_path):
    callback = clip_metrics(["lse_d", "lse_c", "psnr"], 6, 30, required=True)
    with pytest.raises(UserError, match=r"required, but can't be measured: .*max_frames=30 cuts all clips"):
        validated(tmp_path, data(), callback)


def test_a_broken_clip_is_left_out_with_a_warning(data, tmp_path, warned):
    source, render = data(), FadedClips()
    whole = source.whole_clip

    def fails_once(record: Any, max_frames: int) -> WholeClip:
        if record.id == "fake1":
            raise UserError("clips/fake1.mp4: damaged")
        return whole(record, max_frames)

    source.whole_clip = fails_once
    validated(tmp_path, source, clip_metrics(["fid"], 3, 8, render=render))
    assert [name for name, _ in render.seen] == ["fake0", "fake2"]
    assert "clip fake1 is not judged: clips/fake1.mp4: damaged" in warned()


def test_sample_videos_arrive_in_tensorboard_and_in_the_folder(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = clip_metrics([], 3, 20, videos=2, folder=str(tmp_path / "samples"))
    logger = TensorBoardLogger(tmp_path, "board", "")
    trainer = trainer_of(tmp_path, callback, logger=logger, limit_train_batches=2)
    source = data()
    trainer.fit(Fader(rate=0.0), source)
    assert len(callback.render.seen) == 2  # nobody looks at the third
    events = EventAccumulator(logger.log_dir).Reload()
    assert sorted(events.Tags()["images"]) == ["val/clip_fake0", "val/clip_fake1"]
    (event,) = events.Images("val/clip_fake0")
    assert (event.width, event.height, event.step) == (64, 32, 2)
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert picture.info["duration"] == 40
    real = source.whole_clip(source.records("val")[0], 20).frames.permute(0, 2, 3, 1).numpy()
    picture.seek(10)
    shown = np.asarray(picture.convert("RGB"))
    assert np.abs(shown[:, :32].astype(int) - real[10]).mean() < 8  # a palette of 256 colours
    files = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert files == ["step_000002_fake0.mp4", "step_000002_fake1.mp4"]
    video = read_video(tmp_path / "samples" / files[0])
    assert video.shape == (20, 32, 64, 3)
    assert np.abs(video[:, :, :32].astype(int) - real).mean() < 8
    assert len(load_audio(tmp_path / "samples" / files[0])) == pytest.approx(20 * 640, abs=1100)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pair_metrics(every_n_epochs=0), "every_n_epochs is 0"),
        (lambda: clip_metrics([], clips=0), "clips=0"),
        (lambda: clip_metrics([], max_frames=0), "max_frames=0"),
        (lambda: ClipMetrics([], None), "render=None: ClipMetrics needs what renders clips"),
        (lambda: clip_metrics(["fid", "lpisp"]), r"measures=\['lpisp'\]: ClipMetrics can judge .*lpips"),
        (lambda: clip_metrics(["av_corr"]), r"measures=\['av_corr'\]: ClipMetrics can judge"),
        (
            lambda: PictureMetrics(["jitter"]),
            r"PictureMetrics can judge psnr, ssim, l1, lpips, fid, kid, fd_efficientnet_lite0$",
        ),
        (lambda: clip_metrics([], protocol="v0"), "v0: no such protocol"),
    ],
)
def test_wrong_settings_are_one_line(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_a_module_without_frames_is_refused(data, tmp_path):
    module = Fader()
    module.validation_step = lambda batch, batch_idx: None
    with pytest.raises(UserError, match="Fader renders no frames in validation; use ClipMetrics"):
        validated(tmp_path, data(), pair_metrics(), module=module)


@pytest.mark.parametrize(
    ("callback", "options", "message"),
    [
        (SamplePictures("samples"), {}, "SamplePictures shows what a motion autoencoder renders, not Fader"),
        (ClipMetrics([], ReconstructedClips()), {}, "ReconstructedClips shows what a motion .*, not Fader"),
        (ClipMetrics([], GeneratedClips("run")), {}, "GeneratedClips samples a motion .*, not Fader"),
        (
            PictureMetrics([]),
            {"task": "sync_windows"},
            "but Fader learns from sync_windows: choose callbacks",
        ),
    ],
)
def test_a_module_of_another_stage_is_refused_before_training(callback, options, message, data, tmp_path):
    module = Fader()
    module.on_fit_start = module.on_sanity_check_start = lambda: pytest.fail("too late")
    with pytest.raises(UserError, match=message) as caught:
        trainer_of(tmp_path, callback).fit(module, data(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("measures", [None, []])
def test_no_measures_are_none(measures, data, tmp_path):
    clips = ClipMetrics(measures, FadedClips(), 1, 8)
    validated(tmp_path, data(), PictureMetrics(measures), clips)
    assert [name for name, _ in clips.render.seen] == ["fake0"]
