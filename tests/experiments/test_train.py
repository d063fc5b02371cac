"""Every stage trains, resumes and runs in two processes; what it leaves behind loads without unpickling objects."""

import copy
import csv
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from torch import Tensor, nn

from datamodules.clips.dataset_folder import make_dataset_folder
from datamodules.errors import UserError
from datamodules.media.pictures import read_image
from datamodules.synthetic_faces.settings import Settings
from experiments import cli
from experiments.config import compose
from experiments.encode import encode_data, find_latents
from experiments.multirun import refuse_script_launcher
from experiments.train import TrainingResult, run_training
from lightning_modules.checkpoints import load_network
from lightning_modules.networks.registry import network_spec
from metrics.evaluation.judges import Judges, load_training_judges
from metrics.evaluation.protocol import Protocol

METRICS = ["callbacks=autoencoder_metrics", "callbacks.samples=null"]


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


def refusal(action: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        action()
    assert "\n" not in str(caught.value)


class Refusing(Callback):
    """Refuses to train when all is set up."""

    def on_train_start(self, *_: object) -> None:
        raise UserError("not this one")


def steps(result: TrainingResult) -> int:
    return torch.load(result.checkpoint, map_location="cpu", weights_only=True)["global_step"]


def read(result: TrainingResult, name: str) -> dict:
    return json.loads((result.run_dir / name).read_text())


@pytest.mark.parametrize("stage", ["autoencoder", "statistics", "diffusion", "sync_expert"])
def test_stage_trains_leaves_a_record_and_resumes(stage, train, tmp_path, autoencoder) -> None:
    result = autoencoder if stage == "autoencoder" else train(stage)
    assert steps(result) == 6
    assert (result.run_dir / "checkpoints" / "best.ckpt").is_file()
    config = yaml.safe_load((result.run_dir / "config.yaml").read_text())
    record, network = read(result, "run.json"), read(result, "network.json")
    assert config["stage"] == record["stage"] == network["stage"] == stage.removesuffix("_expert")
    assert network_spec(load_network(result.run_dir)[0]) == network["network"]
    assert (network["motion_space"] is None) == (stage in ("autoencoder", "sync_expert"))
    assert record["steps"] == 6
    assert len(record["identity"]["config_hash"]) == 16
    assert record["metrics"]["val/loss"] == pytest.approx(result.metrics["val/loss"])
    assert "val/loss" in logged_values(result.run_dir)
    assert list((result.run_dir / "tensorboard").glob("**/events.*"))
    more = [f"resume={result.run_dir}", "trainer.max_steps=9", f"run_dir={tmp_path / 'longer'}"]
    assert steps(train(stage, *more)) == 9


def test_resume_last_equals_an_uninterrupted_run(train, autoencoder, caplog) -> None:
    train("autoencoder", "trainer.max_steps=3")
    parts = train("autoencoder", "resume=last")
    states = [torch.load(r.checkpoint, weights_only=True)["state_dict"] for r in (autoencoder, parts)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)
    assert read(autoencoder, "run.json")["identity"] == read(parts, "run.json")["identity"]
    record = read(parts, "run.json")
    caplog.set_level("INFO")
    again = train("autoencoder", "resume=last")
    assert read(again, "run.json") == record
    assert "was trained to its end before; its record stays" in caplog.text


@pytest.mark.parametrize(
    ("stage", "more", "told"),
    [
        ("autoencoder", "model.network.latent_dim=48", r"last.ckpt: trained with network.latent_dim=32, which is 48 now"),
        ("diffusion", "model.diffusion.target=v", r"last.ckpt: trained with diffusion.target="),
        ("diffusion", "autoencoder=OTHER", r"last.ckpt: trained with motion_space="),
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_with_another_network_and_stays_whole(
    stage, more, told, train, tmp_path, autoencoder
) -> None:
    result = train(stage, "trainer.max_steps=2")
    if more.endswith("OTHER"):
        other = train("autoencoder", "trainer.max_steps=1", "seed=1", f"run_dir={tmp_path / 'other'}")
        more = f"autoencoder={other.run_dir}"
    before = {path: path.read_bytes() for path in result.run_dir.rglob("*") if path.is_file()}
    refusal(lambda: train(stage, more, "resume=last"), told)
    refusal(lambda: train(stage, more, f"resume={result.checkpoint}", f"run_dir={tmp_path / 'new'}"), told)
    assert before == {path: path.read_bytes() for path in result.run_dir.rglob("*") if path.is_file()}
    assert not (tmp_path / "new").exists()
    assert load_network(result.run_dir)


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_written(train, tmp_path) -> None:
    checkpoint = tmp_path / "alone" / "deep" / "some.ckpt"
    checkpoint.parent.mkdir(parents=True)
    content = torch.load(train("autoencoder", "trainer.max_steps=1").checkpoint, weights_only=True)
    again = [f"resume={checkpoint}", "trainer.max_steps=2", f"run_dir={tmp_path / 'new'}"]
    name = next(iter(content["state_dict"]))
    changed = {**content["state_dict"], name: torch.zeros(3)}
    nan = torch.full_like(content["state_dict"][name], float("nan"))
    momentum = copy.deepcopy(content["optimizer_states"][0])
    momentum["state"][0]["exp_avg"].fill_(float("nan"))
    for wrong, told in (
        ({**content, "state_dict": changed}, rf"can't be resumed in this model: {name} is \(3,\), expected"),
        ({"state_dict": content["state_dict"]}, "holds no state of an optimizer"),
        ({**content, "optimizer_states": [{"state": {}}]}, "holds no state of an optimizer"),
        ({key: value for key, value in content.items() if key != "loops"}, "lacks loops"),
        ({}, r"can't be read as a checkpoint \(KeyError\).*: get or train it again"),
        (
            {**content, "state_dict": {**content["state_dict"], name: nan}},
            f"{name} holds values that are NaN",
        ),
        (
            {**content, "optimizer_states": [momentum]},
            "optimizer_states.0.state.0.exp_avg holds values that are NaN",
        ),
        ({**content, "loops": 5}, r"some.ckpt: holds a state that can't be put back \(TypeError"),
        ({**content, "callbacks": 5}, "some.ckpt: holds a state that can't be put back"),
        ({**content, "random_state": [{"python": 5}]}, r"some.ckpt: holds a state that can't be put back"),
    ):
        torch.save(wrong, checkpoint)
        refusal(lambda told=told: train("autoencoder", *again), told)  # type: ignore[misc]
        assert not (tmp_path / "new").exists()
    torch.save(content, checkpoint)
    assert steps(train("autoencoder", *again)) == 2


def test_a_flipped_byte_is_found_and_another_checkpoint_named(train, words, refused) -> None:
    last = train("autoencoder").checkpoint
    stored = bytearray(last.read_bytes())
    stored[len(stored) // 2] ^= 0x10
    last.write_bytes(stored)
    best = last.with_name("best.ckpt")
    again = words("autoencoder", "resume=last", "trainer.max_steps=9")
    refused(["train", *again], f"{last}: is damaged: ", f"; try {best}")
    last.write_bytes(stored[: len(stored) // 2])
    refused(["train", *again], "can't be read as a checkpoint (BadZipFile)", f": try {best}")
    assert steps(train("autoencoder", f"resume={best}", "trainer.max_steps=9")) == 9


@pytest.mark.parametrize("there", [True, False])
def test_a_training_that_is_refused_before_its_first_step_leaves_nothing(train, tmp_path, there) -> None:
    run_dir = tmp_path / "run"
    if there:
        run_dir.mkdir()
    refusal(
        lambda: train("autoencoder", f"+callbacks.wild={{_target_: {__name__}.Refusing}}"), "not this one"
    )
    assert run_dir.exists() == there
    assert not there or not list(run_dir.iterdir())


def test_a_run_is_resumed_without_a_warning_of_its_own_checkpoints(train, recwarn) -> None:
    train("autoencoder", "trainer.max_steps=1")
    train("autoencoder", "trainer.max_steps=2", "resume=last")
    assert not [one for one in recwarn if "not empty" in str(one.message)]


def test_a_folder_of_another_network_is_not_written_over(train, tmp_path, autoencoder) -> None:
    small = train("autoencoder", "model.network.latent_dim=48", "trainer.max_steps=1")
    refusal(
        lambda: train("autoencoder", f"resume={autoencoder.run_dir}"),
        "run/checkpoints/.*ckpt: trained with network.latent_dim=48, which is 32 now",
    )
    assert load_network(small.run_dir)


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_NTASKS", None])
def test_processes_started_from_outside_agree_on_a_folder(variable, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    stamped = [word for word in words("autoencoder") if not word.startswith("run_dir=")]
    if variable is None:
        stamped.append("trainer.num_nodes=2")
    else:
        monkeypatch.setenv(variable, "2")
    monkeypatch.delenv("SLURM_JOB_NAME", raising=False)
    refusal(lambda: run_training(compose(stamped)), "give run_dir=FOLDER")
    assert not list(tmp_path.iterdir())


TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2 -m experiments train"


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["default", "debug"])
def test_torchrun_trains_in_one_folder(trainer, words, tmp_path) -> None:
    """The debug trainer keeps no checkpoint on the way: the last one is then saved by all or by none."""
    more = [f"trainer={trainer}", "trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true"]
    overrides = words("autoencoder", *more, "data.batch_size=2", "trainer.max_steps=2")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *TORCHRUN.split(), *overrides]
    subprocess.run(command, check=True, env=environment, cwd=root, timeout=300)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_autoencoder_writes_sample_pictures(autoencoder: TrainingResult) -> None:
    pictures = sorted((autoencoder.run_dir / "samples").glob("step_*.png"))
    assert read_image(pictures[-1]).shape == (4 * 32, 5 * 32, 3)


@pytest.mark.parametrize("stage", ["autoencoder", "statistics", "sync_expert"])
def test_two_processes_train_together(stage, train) -> None:
    strategy = "trainer.strategy=ddp_fork_find_unused_parameters_true"
    result = train(stage, "trainer.devices=2", strategy, "data.batch_size=2", "trainer.max_steps=3")
    assert steps(result) == 3
    assert read(result, "run.json")["devices"] == 2
    assert math.isfinite(result.metrics["val/loss"])


def test_debug_trainer_runs_without_checkpoints_on_the_way(train) -> None:
    assert train("autoencoder", "trainer=debug").checkpoint.is_file()


def logged_values(run_dir: Path) -> dict[str, float]:
    """Last value of every column of metrics.csv."""
    found: dict[str, float] = {}
    with next((run_dir / "metrics").glob("**/metrics.csv")).open() as file:
        for row in csv.DictReader(file):
            found |= {name: float(text) for name, text in row.items() if text}
    return found


def test_trainings_are_judged_and_shown_while_they_validate(train, tmp_path, caplog) -> None:
    """The configs of metrics as they come: without downloads stage 1 is shown, and stage 3 judged by the expert."""
    first = train("autoencoder", "callbacks=autoencoder_metrics", f"run_dir={tmp_path / 'ae'}")
    told = [record.message for record in caplog.records if "will not measure" in record.message]
    assert "val/fid, val/kid" in told[0] + told[-1]
    assert math.isfinite(first.metrics["val/psnr"])
    metrics = train(
        "diffusion", "callbacks=diffusion_metrics_synthetic", "callbacks.metrics.clips=1",
        "callbacks.metrics.max_frames=60", "callbacks.metrics.render.steps=2",
        "+callbacks.metrics.judges.steps=3",
    ).metrics  # fmt: skip
    assert 0 < metrics["val/lse_d"] < 100
    assert 0 <= metrics["val/lse_c"] < metrics["val/lse_d"]
    assert abs(metrics["val/av_offset"]) <= 15
    assert 0 <= metrics["val/mouth_motion"] < 1
    assert metrics["val/blink_rate"] >= 0
    for run in ("ae", "run"):
        assert list((tmp_path / run / "samples").glob("step_*_fake*.mp4"))


def test_autoencoder_is_judged_while_it_trains(train) -> None:
    judges = [f"+callbacks.metrics.judges={{_target_: {__name__}.small_judges, _partial_: true}}"]
    quick = ["trainer.max_steps=3", "callbacks.metrics.required=true", "callbacks.videos.max_frames=10"]
    result = train("autoencoder", "callbacks=autoencoder_metrics", *judges, *quick)
    found = logged_values(result.run_dir)
    assert 0 < found["val/fid"] < 1
    assert -1 < found["val/kid"] < 1
    assert 0 < found["val/lpips"] < 4  # of pictures in [-1, 1]
    assert 0 < found["val/l1"] < 2
    assert 0 < found["val/psnr"] < 100
    assert list((result.run_dir / "samples").glob("step_000003_fake3.mp4"))
    assert read(result, "run.json")["metrics"].keys() >= {"val/fid"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["callbacks=autoencoder_metrics", "callbacks.videos.render=null"], "render=None"),
        (["monitor=val/lpisp"], "monitors 'val/lpisp', which nothing logs; there are: .*val/loss"),
    ],
)
def test_callbacks_that_do_not_fit_are_one_line(more, message, train, tmp_path) -> None:
    refusal(lambda: train("autoencoder", *more), message)
    assert not (tmp_path / "run" / "run.json").exists()


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
    stage, more, message, train, tmp_path
) -> None:
    refusal(lambda: train(stage, *more, f"data.root={tmp_path / 'nowhere'}"), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("diffusion_tiny autoencoder=nowhere", "nowhere"),
        ("autoencoder_tiny stage=motion", "stage=motion is unknown"),
        ("autoencoder_tiny model.network.size=32", "data.size is 64 but model.network.size is 32"),
        ("sync_expert_tiny lift=run", "only stage 'autoencoder'"),
        ("sync_expert_tiny model.network.size=32", "51 pixels or more"),
        ("sync_expert_tiny model.loss=triplet", "loss 'triplet'"),
        ("autoencoder_tiny resume=last run_dir=nowhere", "no checkpoint to resume from"),
        ("autoencoder_tiny data=folder data.root=nowhere", "nowhere: no prepared clips there"),
        ("autoencoder_tiny data=hdtf data.root=nowhere", "they come from HDTF, by `ifmdm prepare hdtf"),
        ("autoencoder_tiny trainer.accelerator=gpu", "config: Trainer: .*gpu"),
        ("autoencoder_tiny data.clips=2", "at least 3 clips"),
        ("autoencoder_tiny motion_dim=0", "can't be built so: .*motion_dim=0"),
    ],
)
def test_wrong_settings_are_one_line(overrides, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(lambda: run_training(compose(f"experiment={overrides}".split())), message)
    assert not list(tmp_path.iterdir())


def test_a_trained_run_is_not_overwritten(train, autoencoder) -> None:
    before = read(autoencoder, "run.json")
    refusal(lambda: train("autoencoder", f"run_dir={autoencoder.run_dir}"), "already holds a trained run")
    assert read(autoencoder, "run.json") == before


def test_a_prepared_folder_of_other_heads_is_named_with_the_way_to_train_on_it(words, tmp_path) -> None:
    root = tmp_path / "heads"
    make_dataset_folder(root, Settings(clips=7, size=32).to_dict())
    before = sorted(tmp_path.rglob("*"))
    overrides = [*words("autoencoder"), "data=synthetic", f"data.root={root}"]
    refusal(
        lambda: run_training(compose(overrides)),
        f"other settings .*: train on it as it is by data=folder data.root={root}",
    )
    assert sorted(path for path in tmp_path.rglob("*") if not path.name.startswith(".")) == before


def test_a_run_tells_its_ablations_and_words(words) -> None:
    overrides = words("diffusion", "ablation=[no_std,zero_null]", "trainer.max_steps=1", "seed=3")
    record = read(run_training(compose(overrides), overrides), "run.json")
    assert (record["ablation"], record["seed"], record["overrides"]) == (
        ["no_std", "zero_null"],
        3,
        overrides,
    )


def test_motion_of_another_size_than_the_autoencoders_is_refused(train, tmp_path) -> None:
    refusal(
        lambda: train("diffusion", "motion_dim=10"), "has 20 motion coefficients: set motion_dim=20, not 10"
    )
    assert not (tmp_path / "run").exists()


def test_weights_that_are_no_numbers_are_refused(train, autoencoder, tmp_path) -> None:
    run = shutil.copytree(autoencoder.run_dir, tmp_path / "nan")
    for path in run.glob("checkpoints/*.ckpt"):
        content = torch.load(path, weights_only=True)
        name = next(name for name in content["state_dict"] if name.startswith("network."))
        content["state_dict"][name] = torch.full_like(content["state_dict"][name], math.nan)
        torch.save(content, path)
    told = f"nan/checkpoints/best.ckpt: {name.removeprefix('network.')} holds values that are NaN or infinite"
    with pytest.raises(UserError) as caught:
        train("diffusion", f"autoencoder={run}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "status"), [("SIGINT", 130), pytest.param("SIGTERM", 143, marks=pytest.mark.slow)]
)
def test_a_training_that_is_ended_tells_so_and_keeps_its_checkpoint(name, status, words, tmp_path) -> None:
    code = f"""
import os, signal, sys
from lightning.pytorch import Callback
from experiments.cli import main
class End(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.{name})
sys.modules["end_of_training"] = sys.modules["__main__"]
sys.exit(main(sys.argv[1:]))
"""
    more = ["+callbacks.end={_target_: end_of_training.End}", "trainer.max_steps=1000"]
    command = [sys.executable, "-c", code, "train", *words("autoencoder", *more)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("SIGTERM") == (name == "SIGTERM")
    assert "num_workers" not in done.stderr
    run = tmp_path / "run"
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] > 0
    assert not (run / "run.json").exists()


def test_latents_of_a_command_are_found_by_all_processes_and_missing_ones_name_it(
    words, tmp_path, monkeypatch, refused, capfd
) -> None:
    """As torchrun starts them: none encodes, none waits."""
    overrides = words("statistics", f"data.latents={tmp_path / 'la tents'}")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = refused(["train", *overrides], "latents of 4 of 4 clips are missing")
    command = shlex.split(told.partition("ifmdm encode ")[2])
    assert command == overrides
    assert not (tmp_path / "run").exists()
    absent = compose([*overrides, f"data.root={tmp_path / 'absent'}"])
    refusal(
        lambda: run_training(absent),
        r"no such folder of prepared clips.*ifmdm encode experiment=statistics_tiny",
    )
    assert cli.main(["encode", *command]) == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "la tents")
    found, made = find_latents(compose(overrides)), encode_data(compose(overrides))
    assert made is not None
    assert torch.equal(made.basis.mean, found.basis.mean)
    asking = compose([*overrides, "data.undrawn=2"])
    refusal(
        lambda: find_latents(asking),
        "has 0 speeches of those that were not drawn.*run `ifmdm encode` with data.undrawn=2",
    )
    (found.folder / "cache.json").write_text("{}")
    refusal(lambda: find_latents(compose(overrides)), "made with other settings")


@pytest.mark.slow
def test_processes_that_lightning_starts_find_what_the_first_one_encoded(words, tmp_path) -> None:
    more = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=2", "trainer.max_steps=2"]
    overrides = words("statistics", *more, f"data.latents={tmp_path / 'latents'}")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments", "train", *overrides]
    subprocess.run(command, check=True, env=environment, cwd=root)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"] == 2


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ("trainer.devices=2", True),
        ("trainer.devices=2 trainer.strategy=ddp", True),
        ("trainer.devices=2 trainer.strategy=ddp_spawn", False),
        ("trainer.devices=1", False),
        ("trainer.devices=auto", False),
    ],
)
def test_multirun_refuses_several_devices_by_the_script_launcher(
    more: str, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(["experiment=autoencoder_tiny", "run_dir=run", "trainer.accelerator=cpu", *more.split()])
    if wrong:
        refusal(lambda: refuse_script_launcher(config), "multirun")
        for one in ("TORCHELASTIC_RUN_ID=1", "WORLD_SIZE=2", "RANK=0", "LOCAL_RANK=0"):
            monkeypatch.setenv(*one.split("="))
    assert refuse_script_launcher(config) is None
