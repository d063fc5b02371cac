"""A small dataset that is good for every stage, trainings of a second on it, and what a refusal looks like."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.annotations import read_annotations, write_annotations
from datamodules.clips.manifest import read_manifest, write_manifest
from experiments import cli
from experiments.config import compose
from experiments.train import TrainingResult, run_training

NETWORK = ["model.network.size=32", "model.network.channels={4:8,8:8,16:8,32:8}"]
QUICK = {
    "autoencoder": [*NETWORK, "model.network.latent_dim=32", "model.scheduler=null", "data.pairs_per_clip=4"],
    "statistics": ["data.windows_per_clip=4", "model.network.appearance_dim=32"],
    "diffusion": ["data.windows_per_clip=4", "model.network.depth=1"],
    "sync_expert": [
        "data.windows_per_clip=4",
        "data.size=64",
        "model.network.size=64",
        "model.network.width=0.0625",
    ],
}
COMMON = (
    "data=folder data.size=32 data.batch_size=4 data.num_workers=0 data.cache_frames=false "
    "trainer.accelerator=cpu trainer.max_steps=6 trainer.check_val_every_n_epoch=1"
)


@pytest.fixture(scope="session")
def blobs(fake_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five of the fake clips, three to train on, with all that a pose is made of in their annotations."""
    root = tmp_path_factory.mktemp("data") / "blobs"
    shutil.copytree(fake_clips, root)
    records = read_manifest(root)[:5]
    write_manifest(root, records)
    for record in records:
        path = root / str(record.annotations)
        arrays = dict(read_annotations(path).arrays)
        arrays["lip_width"] = np.zeros_like(arrays["blink"])
        arrays["landmarks"] = arrays["regions"][:, :, :2]
        write_annotations(path, arrays, {})
    return root


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with status 2 and say one line with these words; returns the line."""

    def run(words: list[object], *told: str) -> str:
        capfd.readouterr()
        assert cli.main([str(word) for word in words]) == 2
        line = capfd.readouterr().err
        assert line.startswith("ifmdm: error: ")
        assert line.count("\n") == 1
        assert all(part in line for part in told), line
        return line

    return run


@pytest.fixture(scope="session")
def autoencoder(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    run_dir = tmp_path_factory.mktemp("runs") / "autoencoder"
    overrides = [f"experiment=autoencoder_tiny {COMMON}", f"data.root={blobs} run_dir={run_dir}"]
    return run_training(compose([*" ".join(overrides).split(), *QUICK["autoencoder"]]))


@pytest.fixture
def words(blobs: Path, tmp_path: Path, autoencoder: TrainingResult) -> Callable[..., list[str]]:
    """Overrides that make the tiny experiment of a stage take a second, into the folder ``run``."""

    def words_of(stage: str, *more: str) -> list[str]:
        source = [f"autoencoder={autoencoder.run_dir}"] if stage in ("statistics", "diffusion") else []
        places = [f"data.root={blobs}", f"run_dir={tmp_path / 'run'}"]
        return [f"experiment={stage}_tiny", *COMMON.split(), *places, *QUICK[stage], *source, *more]

    return words_of


@pytest.fixture
def train(words: Callable[..., list[str]]) -> Callable[..., TrainingResult]:
    """Trains with those overrides."""
    return lambda stage, *more: run_training(compose(words(stage, *more)))
