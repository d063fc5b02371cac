"""Every config composes, resolves and builds what it names."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from datamodules.errors import UserError
from experiments.config import (
    CONFIG_FOLDER,
    compose,
    config_names,
    instantiate,
    instantiate_all,
    override,
    resolve,
)
from experiments.run_identity import config_hash
from lightning_modules.networks.motion_basis import MotionBasis
from metrics.callbacks import MetricCallback

EXPERIMENTS = config_names("experiment")
FILLED = ["autoencoder=run", "run_dir=run"]


def words(experiment: str, *more: str) -> list[str]:
    """Overrides that name what a user of the experiment would have to name."""
    audio = ["audio.source=folder"] if experiment.endswith("_paper") else []
    return [f"experiment={experiment}", *FILLED, *audio, *more]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_names_itself(experiment: str) -> None:
    config = resolve(compose(words(experiment)))
    assert config["name"] == experiment
    assert experiment.startswith(config["stage"])
    task = {"autoencoder": "frame_pairs", "sync": "sync_windows"}.get(config["stage"], "motion_windows")
    assert config["data"]["task"] == task
    sizes = {"tiny": 64, "small": 128, "base": 256, "paper": 512}
    assert config["data"]["size"] == sizes[experiment.rpartition("_")[2]]
    assert config["trainer"]["max_steps"] > 0


@pytest.mark.parametrize("name", config_names("callbacks"))
def test_callbacks_build(name: str, tmp_path: Path) -> None:
    stage = "autoencoder" if name.startswith("autoencoder") else "diffusion"
    config = compose(
        words(f"{stage}_small", f"callbacks={name}", f"run_dir={tmp_path}", f"data.root={tmp_path}")
    )
    callbacks = instantiate_all(config.callbacks)
    assert isinstance(instantiate(config.trainer, callbacks=callbacks), Trainer)
    judging = [callback for callback in callbacks if isinstance(callback, MetricCallback)]
    names = {
        value for callback in judging for measure in callback.measures.values() for value in measure.names
    }
    sync, motion = {"lse_d", "lse_c", "av_offset"}, {"head_motion", "mouth_motion", "blink_rate", "jitter"}
    expected = {
        "autoencoder_metrics": {"fid", "kid", "lpips"},
        "diffusion_metrics": {"fid", "kid", *sync, *motion},
        "diffusion_metrics_synthetic": {"fid", "kid", *sync, *motion},
    }
    assert names == expected.get(name, set())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_builds(experiment: str, tmp_path: Path) -> None:
    # torchvision's weights need not be there to build a network
    weights = (
        ["model.perceptual.weights=random"] if experiment in ("autoencoder_base", "autoencoder_paper") else []
    )
    config = compose(words(experiment, "trainer.accelerator=cpu", f"run_dir={tmp_path}", *weights))
    stage = {} if config.data.task != "motion_windows" else {"basis": MotionBasis(20)}
    with torch.device("meta"):  # shapes without memory: the largest have 100 M weights
        model = instantiate(config.model, **stage)
    assert isinstance(model, LightningModule)
    assert all(isinstance(v, int | float | str | bool | list | dict | None) for v in model.hparams.values())
    datamodule = instantiate(config.data, latents=str(tmp_path))
    assert isinstance(datamodule, LightningDataModule)
    callbacks, loggers = instantiate_all(config.callbacks), instantiate_all(config.logger)
    assert isinstance(instantiate(config.trainer, callbacks=callbacks, logger=loggers), Trainer)


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.glob("data/*.yaml")), ids=lambda p: p.stem)
def test_data_config_builds(path: Path) -> None:
    config = compose(["experiment=autoencoder_tiny", f"data={path.stem}"])
    assert isinstance(instantiate(config.data), LightningDataModule)


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.glob("model/*.yaml")), ids=lambda p: p.stem)
def test_every_model_config_belongs_to_an_experiment(path: Path) -> None:
    used = "".join(file.read_text() for file in CONFIG_FOLDER.glob("experiment/*.yaml"))
    assert f"/model: {path.stem}\n" in used


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIG_FOLDER.glob("trainer/*.yaml")))
def test_trainer_config_composes(name: str) -> None:
    config = resolve(compose(["experiment=autoencoder_tiny", f"trainer={name}", "run_dir=run"]))
    assert config["trainer"]["_target_"] == "lightning.pytorch.Trainer"


@pytest.mark.parametrize(
    ("more", "strategy", "nodes"),
    [
        (["trainer.strategy=ddp_spawn"], "ddp_spawn", 1),
        (["trainer=ddp", "trainer.num_nodes=2"], "ddp_find_unused_parameters_true", 2),
    ],
)
def test_strategy_and_nodes_are_set_without_a_plus(more: list[str], strategy: str, nodes: int) -> None:
    trainer = compose(["experiment=autoencoder_tiny", *more]).trainer
    assert (trainer.strategy, trainer.num_nodes) == (strategy, nodes)


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_says_what_it_is(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line != "# @package _global_"]
    assert lines[0].startswith("# ")


def test_compose_inside_another_hydra_leaves_that_one_alone() -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
        outer = GlobalHydra.instance().hydra
        assert compose(["experiment=autoencoder_tiny"]).name == "autoencoder_tiny"
        assert GlobalHydra.instance().hydra is outer


def test_missing_values_are_told() -> None:
    with pytest.raises(UserError, match="size"):
        resolve(compose(["data=synthetic"]))


def test_hash_ignores_where_and_sees_what(tmp_path: Path) -> None:
    def hashed(*more: str) -> str:
        return config_hash(resolve(compose(words("diffusion_tiny", *more))))

    same = hashed()
    assert hashed("run_dir=elsewhere", "data.root=elsewhere", "data.num_workers=3", "logger=wandb") == same
    for change in ("seed=1", "data.batch_size=3", "model.optimizer.lr=1e-5", "trainer.devices=2"):
        assert hashed(change) != same
    (tmp_path / "a").write_text("weights")
    (tmp_path / "b").write_text("weights")
    (tmp_path / "c").write_text("other weights")
    first, second, third = (hashed(f"autoencoder={tmp_path / name}") for name in "abc")
    assert first == second != third


@pytest.mark.parametrize(
    "folder",
    [
        "a b/c",
        "a,b=c",
        "it's",
        'a"b',
        "(x)[y]{z}",
        "a#b: c",
        "null",
        "7",
        "$HOME",
        "end\\",
        "a\\'b",
        "~h/%d",
        "Größe",
    ],
)
def test_override_keeps_a_path_as_it_is(folder: str) -> None:
    config = compose(["experiment=autoencoder_tiny", override("data.root", Path(folder))])
    assert config.data.root == folder


def test_videos_are_shown_without_metrics_too():
    words = ["experiment=autoencoder_tiny", "callbacks=autoencoder_metrics", *FILLED]
    every = [
        resolve(compose([*words, word]))["callbacks"]["videos"]["every_n_epochs"]
        for word in ("callbacks.metrics=null", "callbacks.metrics.every_n_epochs=3")
    ]
    assert every == [1, 3]
