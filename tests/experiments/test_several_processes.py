"""Several processes learn what one would from the whole batch: the same items, random numbers, sums and gradients."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.errors import UserError
from experiments.config import compose
from experiments.encode import encode_data
from experiments.run_folder import RUN_DIR_VARIABLE
from experiments.train import TrainingResult, run_training
from lightning_modules.checkpoints import load_network
from tests.experiments.process_callbacks import Gradients, Weights

ROOT = Path(__file__).parents[2]
STAGES = ("autoencoder", "statistics", "diffusion")
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2 -m experiments train"


def callback(kind: type, folder: Path) -> str:
    return f"+callbacks.kept={{_target_: {kind.__module__}.{kind.__name__}, folder: '{folder}'}}"


@pytest.fixture(scope="session")
def uneven(fake_clips: Path, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blobs, one of them not annotated, and a clip that ends within its windows: what is known differs by process."""
    root = tmp_path_factory.mktemp("data") / "uneven"
    shutil.copytree(blobs, root)
    short = read_manifest(fake_clips)[5]
    assert short.split == "train"
    first, second, *others = read_manifest(root)
    write_manifest(root, [first, dataclasses.replace(second, annotations=None), *others, short])
    return root


WARP = [
    "experiment=autoencoder_warp",
    "data=folder",
    "data.num_workers=0",
    "data.cache_frames=false",
    "data.pairs_per_clip=4",
    "data.size=64",
    "model.network.size=64",
    "model.network.width=16",
    "model.network.latent_dim=32",
    "model.network.painters=8",
    "model.network.known_features=false",
    "model.losses.perceptual=null",
    "model.losses.face=null",
    "model.scheduler=null",
    "trainer.accelerator=cpu",
]


@pytest.mark.parametrize("stage", [*STAGES, "autoencoder of warp"])
def test_two_processes_with_half_the_batch_have_the_gradients_of_one_with_all(
    stage: str, train: Callable[..., TrainingResult], uneven: Path, tmp_path: Path
) -> None:
    """Stage 1 without a GAN, whose discriminator looks at the deviation over the items of its process."""
    found = []
    for processes in (1, 2):
        strategy = "auto" if processes == 1 else "ddp_fork_find_unused_parameters_true"
        more = [f"data.root={uneven}", f"run_dir={tmp_path / str(processes)}", "callbacks.ema=null"]
        more += ["data.augment=true", "trainer.max_steps=2", f"trainer.strategy={strategy}"]
        more += [f"trainer.devices={processes}", f"data.batch_size={8 // processes}"]
        folder = tmp_path / f"gradients{processes}"
        more.append(callback(Gradients, folder))
        if stage in STAGES:
            train(stage, *more)
        else:
            run_training(compose([*WARP, *more]))
        found.append([torch.load(folder / f"{step}.pt", weights_only=True) for step in range(2)])
    for one, two in zip(*found, strict=True):
        size = torch.stack([gradient.norm() for gradient in one.values()]).norm()
        assert size > 1e-3
        for name, gradient in one.items():
            error = (gradient - two[name]).norm()
            assert error <= 1e-5 * max(gradient.norm(), 1e-2 * size), name


def torchrun(overrides: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop(RUN_DIR_VARIABLE, None)  # of a training in this process
    command = [sys.executable, *TORCHRUN.split(), *overrides]
    done = subprocess.run(command, env=environment, cwd=ROOT, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "stage",
    ["statistics", *(pytest.param(s, marks=pytest.mark.slow) for s in ("autoencoder", "diffusion", "gan"))],
)
def test_torchrun_trains_each_stage_on_cpus_and_both_processes_end_alike(
    stage: str, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    more = ["trainer=ddp", "trainer.devices=2", "data.batch_size=2", "trainer.max_steps=3"]
    overrides = words("autoencoder" if stage == "gan" else stage, *more, callback(Weights, tmp_path / "kept"))
    if stage == "gan":
        overrides[0] = "experiment=autoencoder_base"
        overrides += ["model.losses.perceptual=null", "model.gan.start=1"]
    elif stage != "autoencoder":
        overrides.append(f"data.latents={tmp_path / 'latents'}")
        encode_data(compose(overrides))
    torchrun(overrides)
    first, second = (torch.load(tmp_path / f"kept/{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []
    # A process that ends in its group aborts once in a while.
    assert [(tmp_path / f"kept/{rank}.txt").read_text() for rank in range(2)] == ["False", "False"]
    run = tmp_path / "run"
    assert json.loads((run / "run.json").read_text())["devices"] == 2
    trained = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert trained["global_step"] == 3
    assert [
        name for name, value in trained["state_dict"].items() if not torch.equal(value, first[name])
    ] == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("+trainer.sync_batchnorm=true", "trainer.sync_batchnorm=true needs GPUs"),
        ("+trainer.sync_batchnorm=false", "layers of batch norm see the items of their process alone"),
    ],
)
def test_batch_norm_in_several_processes_is_told(more: str, told: str, words, capfd, caplog) -> None:
    strategy = "trainer.strategy=ddp_fork_find_unused_parameters_true"
    wanted = ["model.network.norm=batch", "trainer.devices=2", strategy, "trainer.max_steps=1", more]
    config = compose(words("autoencoder", *wanted, "data.batch_size=2"))
    if more.endswith("true"):
        with pytest.raises(UserError, match=told):
            run_training(config)
    else:
        run_training(config)
        assert told in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("more", ["compile=true", "trainer.precision=bf16-mixed"])
def test_switches_of_speed_leave_checkpoints_as_they_are(
    stage: str, more: str, train: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    plain, fast = (
        train(stage, f"run_dir={tmp_path / str(number)}", *words) for number, words in enumerate(([], [more]))
    )
    first, second = (torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (plain, fast))
    assert {name: value.shape for name, value in first.items()} == {n: v.shape for n, v in second.items()}
    assert fast.metrics["val/loss"] == pytest.approx(plain.metrics["val/loss"], rel=0.1)
    assert load_network(fast.run_dir)
