"""Every config composes, resolves and builds what it names."""

from pathlib import Path

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from datamodules.errors import UserError
from experiments.config import (
    CONFIG_FOLDER,
    compose,
    config_names,
    hydra_overrides,
    instantiate,
    instantiate_all,
    override,
    resolve,
    with_open_maps,
)
from experiments.evaluation_setup import compose_evaluation
from experiments.run_folder import config_hash
from lightning_modules.networks.motion_basis import MotionBasis
from metrics.callbacks import MetricCallback

EXPERIMENTS = config_names("experiment")
FILLED = ["autoencoder=run", "init=run", "run_dir=run"]


def words(experiment: str, *more: str) -> list[str]:
    """Overrides that name what a user of the experiment would have to name."""
    audio = ["audio.source=folder"] if experiment.endswith("_paper") else []
    return [f"experiment={experiment}", *FILLED, *audio, *more]


@pytest.mark.parametrize("name", config_names("callbacks"))
def test_callbacks_build(name: str, tmp_path: Path) -> None:
    stage = "autoencoder" if name.startswith("autoencoder") else "diffusion"
    config = compose(
        words(f"{stage}_small", f"callbacks={name}", f"run_dir={tmp_path}", f"data.root={tmp_path}")
    )
    callbacks = instantiate_all(config.callbacks)
    assert isinstance(instantiate(config.trainer, callbacks=callbacks), Trainer)
    judging = [callback for callback in callbacks if isinstance(callback, MetricCallback)]
    names = {measure.name for callback in judging for measure in callback.measures}
    sync, motion = {"lse_d", "lse_c", "av_offset"}, {"head_motion", "mouth_motion", "blink_rate", "jitter"}
    expected = {
        "autoencoder_metrics": {"fid", "kid", "lpips"},
        "diffusion_metrics": {"fid", "kid", *sync, *motion},
        "diffusion_metrics_synthetic": {"fid", "kid", *sync, *motion},
    }
    assert names == expected.get(name, set())


def build_model(config: DictConfig) -> LightningModule:
    stage = {} if config.data.task != "motion_windows" else {"basis": MotionBasis(20)}
    with torch.device("meta"):  # shapes without memory: the largest have 100 M weights
        return instantiate(config.model, **stage)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_names_itself_and_builds(experiment: str, tmp_path: Path) -> None:
    # torchvision's weights need not be there to build a network
    gan = experiment in ("autoencoder_base", "autoencoder_paper")
    weights = ["model.losses.perceptual.features.pretrained=random"] if gan else []
    config = compose(words(experiment, "trainer.accelerator=cpu", f"run_dir={tmp_path}", *weights))
    plain = resolve(config)
    assert plain["name"] == experiment
    assert experiment.startswith(plain["stage"])
    task = {"autoencoder": "frame_pairs", "sync": "sync_windows"}.get(plain["stage"], "motion_windows")
    assert plain["data"]["task"] == task
    sizes = {"tiny": 64, "demo": 128, "small": 128, "base": 256, "warp": 256, "paper": 512}
    size = next(word for word in experiment.split("_") if word in sizes)
    assert plain["data"]["size"] == sizes[size]
    assert plain["trainer"]["max_steps"] > 0
    model = build_model(config)
    assert isinstance(model, LightningModule)
    assert all(isinstance(v, int | float | str | bool | list | dict | None) for v in model.hparams.values())
    assert isinstance(instantiate(config.data, latents=str(tmp_path)), LightningDataModule)
    callbacks, loggers = instantiate_all(config.callbacks), instantiate_all(config.logger)
    assert isinstance(instantiate(config.trainer, callbacks=callbacks, logger=loggers), Trainer)


def refusal(overrides: list[str], told: str) -> str:
    with pytest.raises(UserError) as error:
        resolve(compose(overrides))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("word", ["logger=null", "model=null"])
def test_a_group_that_is_null_is_refused(word: str) -> None:
    assert refusal(words("autoencoder_tiny", word), "to leave one out: ~GROUP")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("model.losses.l1.weight=abc", "model.losses.l1.weight=abc: use a number"),
        ("model.optimizer.lr=abc", "model.optimizer.lr=abc: use a number"),
        ("model.losses.l1.weight=nan", "model.losses.l1.weight=nan: use a finite number"),
        ("model.optimizer.betas=[0.9,abc]", "model.optimizer.betas=[0.9, 'abc']: use a number"),
        ("model.optimizer.betas=0.9", "model.optimizer.betas=0.9: use a list"),
        ("model.scheduler.warmup_steps=1.5", "model.scheduler.warmup_steps=1.5: use a whole number"),
        ("data.size=true", "data.size=True: use a whole number"),
        ("data.augment=abc", "data.augment=abc: use true or false"),
        ("trainer.log_every_n_steps=abc", "trainer.log_every_n_steps=abc: use a whole number"),
        ("callbacks.progress.seconds=abc", "callbacks.progress.seconds=abc: use a number"),
        ("trainer.accelerator=tpu", "trainer: "),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(word: str, told: str) -> None:
    config = compose(words("autoencoder_tiny", word))
    with pytest.raises(UserError) as error:
        instantiate(config[word.partition(".")[0]]) if "callbacks" not in word else instantiate_all(
            config.callbacks
        )
    assert str(error.value).startswith(f"config: {told}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", config_names("launcher"))
def test_launcher_composes_where_it_is_installed(name: str) -> None:
    if name in ("joblib", "submitit"):
        pytest.importorskip(f"hydra_plugins.hydra_{name}_launcher")
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
        config = hydra.compose("train", [f"launcher={name}"], return_hydra_config=True)
    assert config.hydra.launcher._target_


@pytest.mark.parametrize("name", config_names("data"))
def test_data_config_builds(name: str) -> None:
    config = compose(["experiment=autoencoder_tiny", f"data={name}"])
    assert isinstance(instantiate(config.data), LightningDataModule)


@pytest.mark.parametrize("group", ["model", "size"])
def test_every_model_and_size_belongs_to_an_experiment(group: str) -> None:
    used = "".join(file.read_text() for file in CONFIG_FOLDER.glob("experiment/*.yaml"))
    assert all(f"/{group}: {name}\n" in used for name in config_names(group))


def test_a_size_is_one_word_and_reaches_all_of_a_model() -> None:
    config = resolve(compose(words("autoencoder_tiny", "size=small")))
    assert config["data"]["size"] == config["model"]["network"]["size"] == 128
    config = resolve(compose(words("autoencoder_tiny", "motion_dim=10")))
    assert config["model"]["losses"]["pose"]["motion_dim"] == 10


def test_strategy_and_nodes_are_set_without_a_plus() -> None:
    for more, strategy, nodes in (
        ("trainer=debug trainer.strategy=ddp_spawn", "ddp_spawn", 1),
        ("trainer=ddp trainer.num_nodes=2", "ddp_find_unused_parameters_true", 2),
    ):
        trainer = resolve(compose(["experiment=autoencoder_tiny", "run_dir=run", *more.split()]))["trainer"]
        assert (trainer["strategy"], trainer["num_nodes"]) == (strategy, nodes)


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_says_what_it_is(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line != "# @package _global_"]
    assert lines[0].startswith("# ")


def test_compose_inside_another_hydra_leaves_that_one_alone() -> None:
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
        outer = GlobalHydra.instance().hydra
        assert compose(["experiment=autoencoder_tiny"]).name == "autoencoder_tiny"
        assert GlobalHydra.instance().hydra is outer


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
    ["a b/c", "it's", "(x)[y]{z}", "a#b: c", "end\\", "a\\'b", "~h/%d", "/tmp/a b=c[1] é 中文", 'x"y', "null", "7",
     "a,b=c"],
)  # fmt: skip
def test_a_path_is_kept_as_it_is(folder: str) -> None:
    config = compose(["experiment=autoencoder_tiny", override("data.root", Path(folder))])
    assert config.data.root == folder
    if folder not in ("null", "a,b=c", "end\\"):  # these mean something else without quotes
        assert compose(["experiment=autoencoder_tiny", f"data.root={folder}"]).data.root == folder


@pytest.mark.parametrize("typed", ["1_000", "2024", "1e5", "nan", "true", "-3", "0x1", "'7'"])
def test_a_path_that_looks_like_a_number_stays_a_text(typed: str) -> None:
    keys = ("data.root", "run_dir", "autoencoder", "lift", "resume", "data.latents", "data.splits")
    config = compose(["experiment=autoencoder_tiny", "data=folder", *(f"{key}={typed}" for key in keys)])
    assert {str(OmegaConf.select(config, key)) for key in keys} == {typed.strip("'")}
    assert all(isinstance(OmegaConf.select(config, key), str) for key in keys)
    judged = compose_evaluation([f"{key}={typed}" for key in ("data.root", "model", "output")], "evaluate")
    assert (judged["data"]["root"], judged["talking_head"], judged["output"]) == (typed.strip("'"),) * 3


def test_null_and_numbers_stay_what_they_are() -> None:
    config = compose(["experiment=autoencoder_tiny", "lift=null", "data.seconds=1e1", "seed=1_0"])
    assert (config.lift, config.data.seconds, config.seed) == (None, 10.0, 10)
    assert hydra_overrides(["autoencoder=1_0,runs/a"], multirun=True) == ["autoencoder='1_0',runs/a"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("data.size", "says no value; write data.size=VALUE"),
        ("data.seconds=[1,2", "\"data.seconds='[1,2'\""),
        ("data.root=a,b", "\"data.root='a,b'\""),
        ("data.roots=a", "there is no key 'data.roots'; did you mean data.root?"),
        (
            "size.autoencoder.channls={4: 8}",
            "no key 'size.autoencoder.channls'; did you mean size.autoencoder.channels?",
        ),
        ("trainer.limit_val_batches=2", "is added by +trainer.limit_val_batches=..."),
        ("experiment=nothing", "experiment/nothing"),
        ("data.size=???", "size"),
    ],
)
def test_a_wrong_override_is_told_in_a_line(word: str, told: str) -> None:
    line = refusal([*words("autoencoder_tiny"), word], told)
    assert line.startswith("config: ")
    assert ":;" not in line


def test_a_map_may_bring_new_keys_and_a_sweep_keeps_its_commas() -> None:
    channels = dict.fromkeys((4, 8, 16, 32, 64, 128, 256), 16)
    for key in ("model.network.channels", "size.autoencoder.channels"):
        config = compose(["experiment=autoencoder_tiny", f"{key}={channels}"])
        assert resolve(config)["model"]["network"]["channels"] == channels
    assert resolve(compose(["experiment=autoencoder_tiny", "++size.new={4: 8}"]))["size"]["new"] == {4: 8}
    swept = ["experiment=autoencoder_tiny,autoencoder_small", "seed=range(1,3)"]
    typo, known = (f"size.autoencoder.{key}={{4: 8}}" for key in ("channls", "channels"))
    assert with_open_maps(["experiment=glob(*)", known]) == ["experiment=glob(*)", f"++{known}"]
    assert with_open_maps(["hydra.job.env_set={A: 1}"]) == ["++hydra.job.env_set={A: 1}"]
    assert with_open_maps([*swept, known]) == [*swept, f"++{known}"]
    with pytest.raises(UserError, match=r"did you mean size\.autoencoder\.channels"):
        with_open_maps([*swept, typo])
    assert hydra_overrides(["seed=1,2", "data.root=é"], multirun=True) == ["seed=1,2", "data.root='é'"]
    assert hydra_overrides(["~callbacks.ema", "+a.b={c: 1}"]) == ["~callbacks.ema", "+a.b={c: 1}"]


def test_videos_are_shown_without_metrics_too():
    words = ["experiment=autoencoder_tiny", "callbacks=autoencoder_metrics", *FILLED]
    every = [
        resolve(compose([*words, word]))["callbacks"]["videos"]["every_n_epochs"]
        for word in ("callbacks.metrics=null", "callbacks.metrics.every_n_epochs=3")
    ]
    assert every == [1, 3]
