"""Metric callbacks: values by hand, processes, epochs, absent judges, sample videos, and a training that notices nothing."""

import functools
import io
import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules import assets
from datamodules.batches import FramePairBatch, WholeClip
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.video import read_video
from datamodules.talking_head import TalkingHeadDataModule
from lightning_modules.callbacks.clip_rendering import GeneratedClips, ReconstructedClips
from lightning_modules.callbacks.samples import SamplePictures
from metrics import measures as measures_module
from metrics.callbacks import ClipMetrics, MetricCallback, PictureMetrics
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance
from metrics.judges.frame_regressor import FrameRegressor
from metrics.judges.syncnet import SyncNet, load_expert
from metrics.lpips import LPIPS
from metrics.measures import LipSync, Measure, MotionOfClips, PerceptualDistance, PictureDistance
from metrics.motion import blink_rate, head_motion, jitter, mouth_motion
from metrics.sync import judge_clip

FRAMES = 60
CLIP_NAMES = ("fid_small", "kid_small", "lse_d", "lse_c", "av_offset")
CLIP_NAMES += ("head_motion", "mouth_motion", "blink_rate", "jitter")


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


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an untrained expert of lip sync and an untrained judge of motion."""
    folder = tmp_path_factory.mktemp("judges")
    (folder / "expert").mkdir()
    torch.manual_seed(0)
    network = SyncNet(0.05, 51, (0.1, 0.3, 0.9, 1.0))
    save_file(network.state_dict(), folder / "expert" / "model.safetensors")
    config = {"name": "syncnet", "width": 0.05, "size": 51, "region": [0.1, 0.3, 0.9, 1.0]}
    (folder / "expert" / "config.json").write_text(json.dumps({"format": 2, "network": config}))
    FrameRegressor().save(folder / "regressor")
    return folder


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


def clip_measures(judges: Path) -> dict[str, Any]:
    return {
        "fid": PictureDistance(network=SmallNetwork(), label="small", batch_size=7),
        "sync": LipSync(str(judges / "expert"), minimum=30),
        "motion": MotionOfClips(functools.partial(FrameRegressor.load, judges / "regressor")),
        "left_out": None,
    }


def pair_measures() -> dict[str, Any]:
    return {
        "fid": PictureDistance(network=SmallNetwork(), label="small"),
        "lpips": PerceptualDistance(network=SmallDistance(), label="small"),
    }


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


class Told(Callback):
    """Writes down what every process logged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        path = self.folder / f"rank{trainer.global_rank}_epoch{trainer.current_epoch}.json"
        path.write_text(json.dumps(values))


def test_clips_give_what_the_metrics_give_by_hand(data: Any, judges: Path, tmp_path: Path) -> None:
    module, source = Fader(), data()
    callback = ClipMetrics(clip_measures(judges), FadedClips(), clips=2, max_frames=FRAMES)
    trainer = trainer_of(tmp_path, callback)
    trainer.validate(module, source, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}

    clips = [source.whole_clip(record, FRAMES) for record in source.records("val")[:2]]
    rendered = [FadedClips()(module.eval(), clip).detach() for clip in clips]
    fid, kid = FrechetInceptionDistance(SmallNetwork()), KernelInceptionDistance(SmallNetwork())
    for metric in (fid, kid):
        metric.update(torch.cat([clip.frames for clip in clips]), real=True)
        metric.update(torch.cat(rendered), real=False)
    expert, regressor = load_expert(judges / "expert"), FrameRegressor.load(judges / "regressor")
    sync = [judge_clip(expert, r, clip.waveform) for r, clip in zip(rendered, clips, strict=True)]
    curves = [regressor.measure(r.permute(0, 2, 3, 1).numpy()) for r in rendered]
    expected = {
        "fid_small": float(fid.compute()),
        "kid_small": float(kid.compute()),
        "lse_d": np.mean([one.distance for one in sync]),
        "lse_c": np.mean([one.confidence for one in sync]),
        "av_offset": np.median([one.offset for one in sync]),
        "head_motion": np.mean([head_motion(one.rotation) for one in curves]),
        "mouth_motion": np.mean([mouth_motion(one.lip_opening) for one in curves]),
        "blink_rate": np.mean([blink_rate(one.blink) for one in curves]),
        "jitter": np.mean([jitter(one.rotation) for one in curves]),
    }
    assert set(CLIP_NAMES) == set(expected)
    assert expected["fid_small"] > 1e-3
    for name, value in expected.items():
        assert found[f"val/{name}"] == pytest.approx(value, rel=1e-5, abs=1e-9), name
    assert {len(clip.frames) for clip in clips} == {FRAMES}
    assert {clip.name for clip in clips} == {name for name, _ in callback.render.seen}  # type: ignore[attr-defined]


def test_pairs_give_what_the_metrics_give_by_hand(data: Any, tmp_path: Path) -> None:
    module, source = Fader(), data()
    trainer = trainer_of(tmp_path, PictureMetrics(pair_measures()))
    trainer.validate(module, source, verbose=False)
    fid, lpips = FrechetInceptionDistance(SmallNetwork()), LPIPS(SmallDistance())
    for batch in source.val_dataloader():
        frames = module.fade(batch.source, batch.driving).detach()
        fid.update(batch.driving, real=True)
        fid.update(frames, real=False)
        lpips.update(frames, batch.driving)
    assert fid.real_count == 0
    assert float(trainer.callback_metrics["val/fid_small"]) == pytest.approx(float(fid.compute()), rel=1e-5)
    assert fid.real_count == 9
    assert float(trainer.callback_metrics["val/lpips_small"]) == pytest.approx(
        float(lpips.compute()), rel=1e-5
    )


@pytest.mark.parametrize("validation", [1, 3])
def test_two_processes_give_what_one_gives(validation: int, data: Any, judges: Path, tmp_path: Path) -> None:
    """With one clip the second process has none; three clips of three pairs leave it one pair fewer."""
    found = []
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        folder = tmp_path / f"devices{devices}"
        folder.mkdir()
        clips = ClipMetrics(clip_measures(judges), FadedClips(), max_frames=FRAMES)
        pairs = PictureMetrics({"lpips": pair_measures()["lpips"]})
        trainer = trainer_of(folder, clips, pairs, Told(folder), devices=devices, strategy=strategy)
        trainer.validate(Fader(), data(validation), verbose=False)
        told = [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]
        assert len(told) == devices
        found += told
    assert {f"val/{name}" for name in (*CLIP_NAMES, "lpips_small")} <= set(found[0])
    for other in found[1:]:
        for name, value in found[0].items():
            assert other[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_a_training_with_callbacks_is_the_same_training(data: Any, judges: Path, tmp_path: Path) -> None:
    states, sizes, modes = [], [], []
    for judged in (False, True):
        seed_everything(3, verbose=False)
        folder = tmp_path / f"judged{judged}"
        callbacks: list[Callback] = [
            ModelCheckpoint(folder, filename="last", enable_version_counter=False),
        ]
        if judged:
            callbacks += [
                ClipMetrics(clip_measures(judges), FadedClips(), max_frames=FRAMES),
                PictureMetrics(pair_measures()),
            ]
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
            metrics = [m for measure in callback.measures.values() for m in measure.metrics.values()]
            assert len(metrics) in (3, 7)
            for metric in metrics:
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


def test_sanity_checking_is_not_judged(data: Any, tmp_path: Path) -> None:
    render = FadedClips()
    callback = ClipMetrics({"fid": pair_measures()["fid"]}, render, clips=2, max_frames=8, every_n_epochs=2)
    trainer_of(tmp_path, callback, num_sanity_val_steps=2, max_epochs=2).fit(Fader(), data())
    assert len(render.seen) == 2  # the first epoch's


def epochs_judged(folder: Path) -> list[int]:
    """Epochs in which a value was logged."""
    lines = (folder / "csv" / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    place, epoch = columns.index("val/fid_small"), columns.index("epoch")
    rows = [line.split(",") for line in lines[1:]]
    return [int(row[epoch]) for row in rows if row[place]]


def test_every_third_epoch_with_a_monitor_and_resumed(data: Any, tmp_path: Path) -> None:
    """Judged are the first validation and each one three epochs on, the count going on in a resumed training."""

    def fit(folder: Path, epochs: int, resume: Path | None = None) -> Trainer:
        best = ModelCheckpoint(folder, "best", monitor="val/fid_small", enable_version_counter=False)
        last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=False, enable_version_counter=False)
        callback = ClipMetrics({"fid": pair_measures()["fid"]}, FadedClips(), 2, 8, every_n_epochs=3)
        told, logger = Told(folder), CSVLogger(folder, "csv", "")
        folder.mkdir()
        options = {"max_epochs": epochs, "enable_checkpointing": True, "logger": logger}
        trainer = trainer_of(folder, callback, best, last, told, **options)
        trainer.fit(Fader(), data(), ckpt_path=resume, weights_only=True)
        return trainer

    first = fit(tmp_path / "first", 5)
    assert epochs_judged(tmp_path / "first") == [0, 3]
    told = [
        json.loads((tmp_path / f"first/rank0_epoch{epoch}.json").read_text())["val/fid_small"]
        for epoch in range(5)
    ]
    assert told[0] == told[1] == told[2] != told[3] == told[4]
    assert torch.load(tmp_path / "first/best.ckpt", weights_only=True)["epoch"] == (
        0 if told[0] < told[3] else 3
    )
    second = fit(tmp_path / "second", 8, tmp_path / "first/last.ckpt")
    assert epochs_judged(tmp_path / "second") == [6]
    at_once = json.loads((tmp_path / "second/rank0_epoch5.json").read_text())
    assert at_once["val/fid_small"] == pytest.approx(told[4])  # there for the monitor, though not judged anew
    assert first.current_epoch == 5
    assert second.current_epoch == 8


@pytest.mark.parametrize("after", [False, True])
def test_averaged_weights_are_judged_in_any_order(after: bool, data: Any, tmp_path: Path) -> None:
    render, average = FadedClips(), EMAWeightAveraging(decay=0.5)
    callback = ClipMetrics({"fid": pair_measures()["fid"]}, render, 1, 8)
    module, log = Fader(), CSVLogger(tmp_path, "csv", "")
    callbacks = [average, callback] if after else [callback, average]
    trainer = trainer_of(tmp_path, *callbacks, logger=log, limit_train_batches=2)
    running: list[float] = []
    module.on_train_epoch_end = lambda: running.append(float(module.share))  # type: ignore[method-assign]
    trainer.fit(module, data())
    assert render.seen[0][1] == pytest.approx(float(trainer.callback_metrics["val/loss"]))
    assert render.seen[0][1] != pytest.approx(running[0])


@pytest.fixture
def no_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any public model file, and without the shipped expert."""
    (tmp_path / "assets").mkdir()
    monkeypatch.setenv(assets.FOLDER_VARIABLE, str(tmp_path / "assets"))
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path / "assets")
    monkeypatch.setattr(measures_module, "SHIPPED_EXPERT", tmp_path / "expert")


@pytest.mark.usefixtures("no_assets")
def test_absent_judges_are_named_once_and_the_rest_is_judged(
    data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = {"fid": PictureDistance(), "lpips": PerceptualDistance(), "own": pair_measures()["fid"]}
    with caplog.at_level(logging.WARNING, logger="metrics"):
        trainer = trainer_of(tmp_path, PictureMetrics(parts))
        trainer.fit(Fader(), data())
    (warning,) = [record.message for record in caplog.records if record.name == "metrics.callbacks"]
    for name in ("val/fid, val/kid: ", "val/lpips: ", "pt_inception-2015-12-05-6726825d.pth", "alexnet-owt"):
        assert name in warning
    assert warning.count("`ifmdm assets fetch ") == 2
    assert "val/fid_small" in trainer.callback_metrics
    assert "val/fid" not in trainer.callback_metrics


@pytest.mark.usefixtures("no_assets")
@pytest.mark.parametrize("judge", ["public", "expert"])
def test_a_required_or_monitored_judge_is_refused_before_training(
    judge: str, data: Any, tmp_path: Path
) -> None:
    for options, callbacks, message in (
        ({"required": True}, [], "required, but can't be measured: val/lse_d, val/lse_c, val/av_offset: "),
        ({}, [ModelCheckpoint(tmp_path, monitor="val/lse_d")], "val/lse_d is monitored, but"),
    ):
        callback = ClipMetrics({"sync": LipSync(judge, minimum=30)}, FadedClips(), **options)
        with pytest.raises(UserError, match=message) as caught:
            trainer_of(tmp_path, callback, *callbacks, enable_checkpointing=bool(callbacks)).fit(
                Fader(), data()
            )
        assert ("ifmdm assets fetch syncnet_v2.model" in str(caught.value)) is (judge == "public")
        assert "\n" not in str(caught.value)


def test_clips_too_short_for_a_judge_are_told(
    data: Any, judges: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    motion = clip_measures(judges)["motion"]

    def fit(minimum: int, max_frames: int | None = None, required: bool = False) -> Trainer:
        parts = {"sync": LipSync(str(judges / "expert"), minimum), "motion": motion}
        trainer = trainer_of(
            tmp_path, ClipMetrics(parts, FadedClips(), 6, max_frames, required=required, videos=0)
        )
        trainer.validate(Fader(), data(6), verbose=False)
        return trainer

    def warning(*options: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="metrics"):
            fit(*options)
        (told,) = [record.message for record in caplog.records if record.name == "metrics.callbacks"]
        return told

    sync, remedy = (
        "val/lse_d, val/lse_c, val/av_offset",
        "judge longer validation clips, or lower the measure's minimum",
    )
    told = warning(80)
    assert told.startswith(f"1 of 6 clips have fewer than 80 frames and are not judged for {sync}; {remedy}")
    assert fit(80).callback_metrics["val/lse_d"].isfinite()  # of the five others; the last one has 50
    told = warning(100, 90)  # more of each clip would not help
    assert told.startswith(
        f"this training will not measure {sync}: 6 of 6 clips have fewer than 100 frames, the longest 90; {remedy}"
    )
    cut = "max_frames={} cuts all clips to fewer than {} frames; use {} or more"
    assert warning(60, 59) == f"this training will not measure {sync}: {cut.format(59, 60, 60)}"
    told = warning(60, 7)
    assert cut.format(7, 60, 60) in told
    assert f"val/jitter: {cut.format(7, 8, 8)}" in told
    with pytest.raises(UserError, match="6 of 6 clips have fewer than 100 frames"):
        fit(100, required=True)
    with pytest.raises(UserError, match=r"required, but can't be measured: .*max_frames=30 cuts all clips"):
        fit(60, 30, required=True)


@pytest.mark.parametrize(("shortest", "judged"), [(1, 6), (80, 5)])
def test_clips_too_short_for_a_measure_do_not_reach_it(
    shortest: int, judged: int, data: Any, tmp_path: Path
) -> None:
    class Lengths(Measure):
        names = ("shortest_clip",)

        def load(self) -> None:
            self.shortest = shortest
            self.seen: list[int] = []

        def update(self, real: Tensor, rendered: Tensor, waveform: Tensor | None = None) -> None:
            self.seen.append(len(rendered))

        def compute(self) -> dict[str, float]:
            return {"shortest_clip": min(self.seen)}

    lengths = Lengths()
    trainer = trainer_of(tmp_path, ClipMetrics({"lengths": lengths}, FadedClips(), 6, None, videos=0))
    trainer.validate(Fader(), data(6), verbose=False)
    assert len(lengths.seen) == judged  # the last one has 50 frames
    assert trainer.callback_metrics["val/shortest_clip"] >= shortest


def test_a_broken_clip_is_left_out_with_a_warning(
    data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, render = data(), FadedClips()
    whole = source.whole_clip

    def fails_once(record: Any, max_frames: int) -> WholeClip:
        if record.id == "fake1":
            raise UserError("clips/fake1.mp4: damaged")
        return whole(record, max_frames)

    monkeypatch.setattr(source, "whole_clip", fails_once)
    callback = ClipMetrics({"fid": pair_measures()["fid"]}, render, 3, 8)
    with caplog.at_level(logging.WARNING, logger="metrics"):
        trainer_of(tmp_path, callback).validate(Fader(), source, verbose=False)
    assert [name for name, _ in render.seen] == ["fake0", "fake2"]
    assert "clip fake1 is not judged: clips/fake1.mp4: damaged" in caplog.text


def test_sample_videos_arrive_in_tensorboard_and_in_the_folder(data: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = ClipMetrics({}, FadedClips(), 3, 20, videos=2, folder=str(tmp_path / "samples"))
    logger = TensorBoardLogger(tmp_path, "board", "")
    trainer = trainer_of(tmp_path, callback, logger=logger, limit_train_batches=2)
    source = data()
    trainer.fit(Fader(rate=0.0), source)
    assert len(callback.render.seen) == 2  # nobody looks at the third  # type: ignore[attr-defined]
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
        (lambda: PictureMetrics({}, every_n_epochs=0), "every_n_epochs is 0"),
        (lambda: ClipMetrics({}, FadedClips(), clips=0), "clips=0"),
        (lambda: ClipMetrics({}, FadedClips(), max_frames=0), "max_frames=0"),
        (lambda: ClipMetrics({}, None), "render=None: ClipMetrics needs what renders clips"),
        (lambda: LipSync("expert", minimum=5), "minimum is 5 frames, lip sync needs 6 or more"),
        (lambda: MotionOfClips(None), "judge=None: give what makes a judge of motion, or null for the whole"),
        (lambda: PictureDistance(network=SmallNetwork()), "fid/kid by another network needs a label"),
        (lambda: PerceptualDistance(network=SmallDistance()), "lpips by another network needs a label"),
    ],
)
def test_wrong_settings_are_one_line(build: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_a_module_without_frames_is_refused(data: Any, tmp_path: Path) -> None:
    module = Fader()
    module.validation_step = lambda batch, batch_idx: None  # type: ignore[method-assign, assignment]
    with pytest.raises(UserError, match="Fader renders no frames in validation; use ClipMetrics"):
        trainer_of(tmp_path, PictureMetrics(pair_measures())).validate(module, data(), verbose=False)


@pytest.mark.parametrize(
    ("callback", "options", "message"),
    [
        (SamplePictures("samples"), {}, "SamplePictures shows what a motion autoencoder renders, not Fader"),
        (ClipMetrics({}, ReconstructedClips()), {}, "ReconstructedClips shows what a motion .*, not Fader"),
        (
            ClipMetrics({}, GeneratedClips("run")),
            {},
            "GeneratedClips samples a motion diffusion .*, not Fader",
        ),
        (
            PictureMetrics({}),
            {"task": "sync_windows"},
            "but Fader learns from sync_windows: choose callbacks",
        ),
    ],
)
def test_a_module_of_another_stage_is_refused_before_training(
    callback: Callback, options: dict[str, str], message: str, data: Any, tmp_path: Path
) -> None:
    module = Fader()
    module.on_fit_start = module.on_sanity_check_start = lambda: pytest.fail("too late")  # type: ignore[method-assign]
    with pytest.raises(UserError, match=message) as caught:
        trainer_of(tmp_path, callback).fit(module, data(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("measures", [None, {}])
def test_no_measures_are_none(measures: dict[str, Measure] | None, data: Any, tmp_path: Path) -> None:
    clips = ClipMetrics(measures, FadedClips(), 1, 8)
    trainer_of(tmp_path, PictureMetrics(measures), clips).validate(Fader(), data(), verbose=False)
    assert [name for name, _ in clips.render.seen] == ["fake0"]  # type: ignore[attr-defined]
