"""Every stage trains, resumes and runs in two processes; what it leaves behind loads without unpickling objects."""

import csv
import json
import math
import threading
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from datamodules.errors import UserError
from experiments.config import compose
from experiments.locks import one_process_at_a_time
from experiments.train import TrainingResult, refuse_script_launcher, run_training
from metrics.evaluation.judges import Judges, load_training_judges
from metrics.evaluation.protocol import Protocol

NETWORK = ["model.network.size=32", "model.network.channels={4:8,8:8,16:8,32:8}"]
QUICK = {
    "autoencoder": [*NETWORK, "model.network.latent_dim=32", "model.total_steps=0", "data.pairs_per_clip=4"],
    "statistics": ["data.windows_per_clip=4", "model.network.appearance_dim=32"],
    "diffusion": ["data.windows_per_clip=4", "model.network.depth=1"],
}


class SmallNetwork(nn.Module):
    """Brightness of the quarters: stands for the Inception, whose weights need not be there."""

    num_features = 4

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float().mean(dim=1) / 255, 2).flatten(1)


class SmallDistance(nn.Module):
    """Stands for LPIPS."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).square().mean(dim=(1, 2, 3))


def small_judges(slots: Collection[str], protocol: Protocol) -> Judges:
    """Judges of the metric callbacks whose weights need not be there."""
    judges = load_training_judges((), protocol)
    judges.inception, judges.lpips = SmallNetwork(), SmallDistance()
    return judges


def words(stage: str, blobs: Path, run_dir: Path, *more: str) -> list[str]:
    """Overrides that make the tiny experiment of a stage take a second."""
    return [
        f"experiment={stage}_tiny",
        "data=folder",
        f"data.root={blobs}",
        "data.size=32",
        "data.batch_size=4",
        "data.num_workers=0",
        "trainer.accelerator=cpu",
        "trainer.max_steps=6",
        "trainer.check_val_every_n_epoch=1",
        f"run_dir={run_dir}",
        *QUICK[stage],
        *more,
    ]


@pytest.fixture(scope="module")
def autoencoder(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return run_training(compose(words("autoencoder", blobs, tmp_path_factory.mktemp("runs") / "autoencoder")))


def stage_words(stage: str, blobs: Path, run_dir: Path, autoencoder: TrainingResult, *more: str) -> list[str]:
    source = [] if stage == "autoencoder" else [f"autoencoder={autoencoder.run_dir}"]
    return words(stage, blobs, run_dir, *source, *more)


@pytest.mark.parametrize("stage", ["autoencoder", "statistics", "diffusion"])
def test_stage_trains_leaves_a_record_and_resumes(
    stage: str, blobs: Path, tmp_path: Path, autoencoder: TrainingResult
) -> None:
    overrides = stage_words(stage, blobs, tmp_path / "run", autoencoder)
    result = autoencoder if stage == "autoencoder" else run_training(compose(overrides))

    checkpoint = torch.load(result.checkpoint, map_location="cpu", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert (result.run_dir / "checkpoints" / "best.ckpt").is_file()
    config = yaml.safe_load((result.run_dir / "config.yaml").read_text())
    assert config["stage"] == stage
    record = json.loads((result.run_dir / "run.json").read_text())
    assert record["steps"] == 6
    assert len(record["identity"]["config_hash"]) == 16
    assert record["metrics"]["val/loss"] == pytest.approx(result.metrics["val/loss"])
    logged = next((result.run_dir / "metrics").glob("**/metrics.csv"))
    with logged.open() as file:
        assert any(row.get("val/loss") for row in csv.DictReader(file))
    assert list((result.run_dir / "tensorboard").glob("**/events.*"))

    resumed = stage_words(
        stage, blobs, tmp_path / "longer", autoencoder, f"resume={result.run_dir}", "trainer.max_steps=9"
    )
    longer = run_training(compose(resumed))
    assert torch.load(longer.checkpoint, weights_only=True)["global_step"] == 9


def test_resume_last_equals_an_uninterrupted_run(
    blobs: Path, tmp_path: Path, autoencoder: TrainingResult
) -> None:
    run_training(compose(words("autoencoder", blobs, tmp_path / "parts", "trainer.max_steps=3")))
    parts = run_training(compose(words("autoencoder", blobs, tmp_path / "parts", "resume=last")))
    states = [torch.load(r.checkpoint, weights_only=True) for r in (autoencoder, parts)]
    for name, value in states[0]["state_dict"].items():
        torch.testing.assert_close(states[1]["state_dict"][name], value, msg=name)
    identities = [json.loads((r.run_dir / "run.json").read_text())["identity"] for r in (autoencoder, parts)]
    assert identities[0] == identities[1]


def test_autoencoder_writes_sample_pictures(autoencoder: TrainingResult) -> None:
    from datamodules.media.pictures import read_image

    pictures = sorted((autoencoder.run_dir / "samples").glob("step_*.png"))
    assert pictures
    assert read_image(pictures[-1]).shape == (4 * 32, 5 * 32, 3)


@pytest.mark.parametrize("stage", ["autoencoder", "statistics"])
def test_two_processes_train_together(
    stage: str, blobs: Path, tmp_path: Path, autoencoder: TrainingResult
) -> None:
    more = [
        "trainer.devices=2",
        "trainer.strategy=ddp_fork_find_unused_parameters_true",
        "data.batch_size=2",
    ]
    overrides = stage_words(stage, blobs, tmp_path / "ddp", autoencoder, *more, "trainer.max_steps=3")
    result = run_training(compose(overrides))
    assert torch.load(result.checkpoint, weights_only=True)["global_step"] == 3
    assert json.loads((result.run_dir / "run.json").read_text())["devices"] == 2
    assert math.isfinite(result.metrics["val/loss"])


def test_debug_trainer_runs_without_checkpoints_on_the_way(blobs: Path, tmp_path: Path) -> None:
    result = run_training(compose(words("autoencoder", blobs, tmp_path / "debug", "trainer=debug")))
    assert result.checkpoint.is_file()


def test_trainings_are_judged_and_shown_while_they_validate(
    blobs: Path, tmp_path: Path, autoencoder: TrainingResult, caplog: pytest.LogCaptureFixture
) -> None:
    """The configs of metrics as they come: without downloads stage 1 is shown, and stage 3 judged by the expert."""
    first = run_training(
        compose(words("autoencoder", blobs, tmp_path / "ae", "callbacks=autoencoder_metrics"))
    )
    told = [record.message for record in caplog.records if "will not measure" in record.message]
    assert "val/fid, val/kid" in told[0] + told[-1]
    assert math.isfinite(first.metrics["val/psnr"])
    judged = stage_words(
        "diffusion", blobs, tmp_path / "diffusion", autoencoder, "callbacks=diffusion_metrics_synthetic",
        "callbacks.metrics.clips=1", "callbacks.metrics.max_frames=60", "callbacks.metrics.render.steps=2",
        "+callbacks.metrics.judges.steps=3",
    )  # fmt: skip
    metrics = run_training(compose(judged)).metrics
    assert 0 < metrics["val/lse_d"] < 100
    assert 0 <= metrics["val/lse_c"] < metrics["val/lse_d"]
    assert abs(metrics["val/av_offset"]) <= 15
    assert 0 <= metrics["val/mouth_motion"] < 1
    assert metrics["val/blink_rate"] >= 0
    for run in ("ae", "diffusion"):
        assert list((tmp_path / run / "samples").glob("step_*_blob*.mp4"))


def logged_values(run_dir: Path) -> dict[str, float]:
    """Last value of every column of metrics.csv."""
    found: dict[str, float] = {}
    with next((run_dir / "metrics").glob("**/metrics.csv")).open() as file:
        for row in csv.DictReader(file):
            found |= {name: float(text) for name, text in row.items() if text}
    return found


def test_autoencoder_is_judged_while_it_trains(blobs: Path, tmp_path: Path) -> None:
    more = [
        "callbacks=autoencoder_metrics",
        f"+callbacks.metrics.judges={{_target_: {__name__}.small_judges, _partial_: true}}",
    ]
    quick = ["trainer.max_steps=3", "callbacks.metrics.required=true", "callbacks.videos.max_frames=10"]
    result = run_training(compose(words("autoencoder", blobs, tmp_path / "run", *more, *quick)))
    found = logged_values(result.run_dir)
    assert 0 < found["val/fid"] < 1
    assert -1 < found["val/kid"] < 1
    assert 0 < found["val/lpips"] < 4  # of pictures in [-1, 1]
    assert 0 < found["val/l1"] < 2
    assert 0 < found["val/psnr"] < 100
    assert list((result.run_dir / "samples").glob("step_000003_blob3.mp4"))
    assert json.loads((result.run_dir / "run.json").read_text())["metrics"].keys() >= {"val/fid"}


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        (
            "autoencoder",
            ["callbacks=autoencoder_metrics", "callbacks.videos.render=null"],
            "render=None",
        ),
        (
            "autoencoder",
            ["monitor=val/lpisp"],
            "monitors 'val/lpisp', which nothing logs; there are: .*val/loss",
        ),
    ],
)
def test_callbacks_that_do_not_fit_the_stage_are_one_line(
    stage: str, more: list[str], message: str, blobs: Path, tmp_path: Path, autoencoder: TrainingResult
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_training(compose(stage_words(stage, blobs, tmp_path / "run", autoencoder, *more)))
    assert "\n" not in str(caught.value)


METRICS = ["callbacks=autoencoder_metrics", "callbacks.samples=null"]


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        ("diffusion", ["callbacks=autoencoder"], "SamplePictures is made for stage 'autoencoder', not 'diffusion': choose"),
        ("statistics", ["callbacks=autoencoder_metrics"], "SamplePictures is made for stage 'autoencoder', not 'statistics'"),
        ("diffusion", [*METRICS, "callbacks.videos=null"], "PictureMetrics is made for stage 'autoencoder', not 'diffusion'"),
        ("diffusion", [*METRICS, "callbacks.metrics=null"], "ClipMetrics is made for stage 'autoencoder', not 'diffusion'"),
        ("autoencoder", ["callbacks=diffusion_metrics"], "ClipMetrics is made for stage 'diffusion', not 'autoencoder'"),
        ("statistics", ["callbacks=diffusion_metrics"], "ClipMetrics is made for stage 'diffusion', not 'statistics'"),
    ],
)  # fmt: skip
def test_callbacks_of_another_stage_are_refused_before_any_data_is_made(
    stage: str, more: list[str], message: str, tmp_path: Path, autoencoder: TrainingResult
) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(UserError, match=message) as caught:
        run_training(compose(stage_words(stage, nowhere, tmp_path / "run", autoencoder, *more)))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_trained_run_is_not_overwritten(blobs: Path, autoencoder: TrainingResult) -> None:
    with pytest.raises(UserError, match="already holds a trained run"):
        run_training(compose(words("autoencoder", blobs, autoencoder.run_dir)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=diffusion_tiny"], "needs autoencoder=PATH"),
        (["experiment=diffusion_tiny", "autoencoder=nowhere"], "nowhere"),
        (["experiment=autoencoder_tiny", "stage=motion"], "stage=motion is unknown"),
        (["experiment=autoencoder_tiny", "resume=last", "run_dir=nowhere"], "no checkpoint to resume from"),
        (["experiment=autoencoder_tiny", "data=folder", "data.root=nowhere", "run_dir=new"], "nowhere"),
        ([], "needs experiment=NAME"),
    ],
)
def test_wrong_settings_are_one_line(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run_training(compose(overrides))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_one_process_prepares_while_the_others_wait(tmp_path: Path) -> None:
    root, order = tmp_path / "new" / "data", []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with one_process_at_a_time(root):
            inside.set()
            leave.wait(60)
            order.append("first made it")

    def second() -> None:
        with one_process_at_a_time(root):
            order.append("second found it")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    threads[1].join(0.5)
    assert order == []  # the second waits
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order == ["first made it", "second found it"]
    assert not root.exists()


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        (["trainer.devices=2"], True),
        (["trainer.devices=[0,1]", "trainer.strategy=ddp"], True),
        (["trainer.devices=2", "trainer.strategy=ddp_spawn"], False),
        (["trainer.devices=1"], False),
        (["trainer.devices=auto"], False),
    ],
)
def test_multirun_refuses_several_devices_by_the_script_launcher(
    more: list[str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(["experiment=autoencoder_tiny", "trainer.accelerator=cpu", *more])
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    if refused:
        with pytest.raises(UserError, match="multirun"):
            refuse_script_launcher(config)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    refuse_script_launcher(config)
