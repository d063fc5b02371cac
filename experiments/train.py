"""``ifmdm train``: one training as a config describes it, or with ``-m`` several; each leaves a run folder that says how."""

import argparse
import contextlib
import logging
import os
import signal
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from datamodules.errors import UserError
from experiments.config import compose, config_names, instantiate, instantiate_all, resolve
from experiments.config_checks import SOURCES, STAGES, check_numbers, check_sides, require_source
from experiments.resuming import checkpoint_to_resume, refuse_other_network, refuse_unrestored
from experiments.run_folder import (
    RUN_DIR_VARIABLE,
    folder_of_first_process,
    own_run_folder,
    record_of,
    require_record,
    run_folder,
    started_again,
    write_end,
    write_start,
)
from experiments.startup import cores_at_hand

if TYPE_CHECKING:  # Lightning takes seconds to import: a wrong word is refused before that
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

log = logging.getLogger(__name__)

GROUPS = ("experiment", "data", "model", "size", "ablation", "callbacks", "logger", "trainer", "launcher")
"""Groups of configs that ``--help`` lists."""

TOLD_TO_END = 128 + signal.SIGTERM
"""Exit status of a training, and of each of its processes, that was told to end and saved."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind.

    Attributes:
        run_dir: holds ``config.yaml``, ``network.json``, ``run.json``, ``checkpoints/``, ``metrics/``, ``tensorboard/`` and
            ``samples/``.
        checkpoint: the last one, ``run_dir/checkpoints/last.ckpt``.
        metrics: last logged values by name, e.g. ``val/loss``.
    """

    run_dir: Path
    checkpoint: Path
    metrics: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm train``."""
    parser.description = (
        "Train one stage. An override picks a config (GROUP=NAME) or changes a value (KEY=VALUE)."
    )
    groups = [textwrap.fill(f"{group}: {', '.join(config_names(group))}", 79) for group in GROUPS]
    parser.epilog = "\n".join(["Names by group; several ablations are ablation=[a,b]:", *groups])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    each = "one run for each combination of a,b,c values"
    parser.add_argument("-m", "--multirun", action="store_true", help=each)
    words = "Hydra overrides, experiment=NAME first of all"
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=words)


def run(args: argparse.Namespace) -> int:
    """Train as the command line says; with ``-m`` through the launcher that the config names."""
    if args.multirun:
        from experiments.multirun import run_multirun

        run_multirun(args.overrides)
        return 0
    result = run_training(compose(args.overrides), args.overrides)
    log.info("run: %s\ncheckpoint: %s", result.run_dir, result.checkpoint)
    return 0


def run_training(config: DictConfig, words: Sequence[str] = ()) -> TrainingResult:
    """Train as the config describes.

    Args:
        config: composed from ``configs/train.yaml``.
        words: the overrides that it was composed of, for messages.

    Raises:
        UserError: no experiment, no autoencoder for a training on latents, an occupied run folder, nothing to resume,
            callbacks of another stage, a monitored value that nobody logs, another network than that of the resumed run.
    """
    plain = _checked(config)
    from lightning.pytorch.utilities import rank_zero_only

    from lightning_modules.checkpoints import find_weights

    _refuse_folder_for_each_process(config)
    config = config.copy()
    for key in SOURCES:
        if plain[key]:
            stage = plain["stage"] if key == "init" else "autoencoder"
            config[key] = plain[key] = str(find_weights(plain[key], stage))
    run_dir = run_folder(plain)
    os.environ[RUN_DIR_VARIABLE] = str(run_dir)
    with own_run_folder(run_dir) if getattr(rank_zero_only, "rank", 0) == 0 else contextlib.nullcontext():
        return _train(config, plain, run_dir, words)


def _train(config: DictConfig, plain: dict[str, Any], run_dir: Path, words: Sequence[str]) -> TrainingResult:
    """Train in a run folder that is this training's alone."""
    started = time.monotonic()
    from lightning.fabric.utilities.warnings import disable_possible_user_warnings
    from lightning.pytorch import seed_everything
    from lightning.pytorch.callbacks import LambdaCallback
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from lightning_modules.callbacks.finite_weights import FiniteWeights
    from lightning_modules.callbacks.random_state import RandomState
    from lightning_modules.callbacks.same_start import SameStart
    from lightning_modules.checkpoint_writing import WholeCheckpoints
    from lightning_modules.compilation import compile_network
    from lightning_modules.initial_weights import start_from
    from lightning_modules.networks.processes import leave_at_exit

    # How many workers load is a setting: Lightning need not say at every start that there could be more. And it knows
    # nothing of our DataModule's place in the data.
    disable_possible_user_warnings(module="lightning.pytorch.trainer.connectors.data_connector")
    disable_possible_user_warnings(module="lightning.pytorch.loops.training_epoch_loop")

    resume = checkpoint_to_resume(plain["resume"], run_dir)
    refuse_more_processes_than_cores(config)
    callbacks = instantiate_all(config.callbacks)
    _refuse_callbacks_of_another_stage(callbacks, plain["stage"])
    seed_everything(plain["seed"], workers=True, verbose=False)
    datamodule, model = build(config, words)
    record = record_of(plain, model)
    if plain["init"]:
        start_from(plain["init"], record, model)
    compile_network(model.network, plain["compile"])  # type: ignore[arg-type]
    if resume is not None:
        refuse_other_network(resume, run_dir, record, model)
    note = LambdaCallback(
        on_fit_start=partial(write_start, run_dir, plain, record),
        on_validation_start=partial(require_record, run_dir),
    )
    always = [SameStart(), RandomState(), FiniteWeights(run_dir), note]
    plugins = [
        instantiate(one) if isinstance(one, DictConfig) else one
        for one in config.trainer.get("plugins") or ()
    ]
    trainer: Trainer = instantiate(
        config.trainer,
        callbacks=[*callbacks, *always],
        plugins=[WholeCheckpoints(), *plugins],
        logger=instantiate_all(config.logger),
    )
    _check_batch_norm(trainer, model, bool(plain["trainer"].get("sync_batchnorm")))
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    except UserError:
        raise
    except Exception as error:
        if resume is not None:
            refuse_unrestored(resume, error)
        if getattr(error, "exit_code", None) == TOLD_TO_END:
            raise SystemExit(TOLD_TO_END) from error
        _refuse_unknown_monitor(trainer, error)
        if told := _other_process(error):
            raise UserError(told) from error
        raise
    except SystemExit as stop:  # Lightning ends the process by a status of its own
        if isinstance(stop, SIGTERMException):
            raise SystemExit(TOLD_TO_END) from stop
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    leave_at_exit()
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    # A fast_dev_run keeps none; all save together or none does.
    if not trainer.strategy.broadcast(checkpoint.is_file()):
        trainer.save_checkpoint(checkpoint, weights_only=False)
    if trainer.is_global_zero and not metrics and (run_dir / "run.json").is_file():
        log.info("%s: was trained to its end before; its record stays", run_dir)
    elif trainer.is_global_zero:
        write_end(run_dir, plain, words, trainer, metrics, time.monotonic() - started)
    return TrainingResult(run_dir, checkpoint, metrics)


def build(config: DictConfig, words: Sequence[str]) -> "tuple[LightningDataModule, LightningModule]":
    """Data and model of a config; latents that they need are made, or found where several processes run."""
    if config.data.task != "motion_windows":
        datamodule, model = instantiate(config.data), instantiate(config.model)
        network: Any = model.network
        if config.data.task == "frame_pairs":
            check_sides(config.data.size, network.size, network.largest_factor)
        if config.lift:
            _lift(model, config.lift)
        return datamodule, model
    from lightning.pytorch.utilities.seed import isolate_rng

    from experiments.config_checks import check_features
    from experiments.encode import encode_data, find_latents
    from lightning_modules.networks.motion_basis import MotionBasis

    with isolate_rng():  # wrong settings are told before latents are made, which takes long
        model = instantiate(config.model, basis=MotionBasis(config.motion_dim))
        check_features(config.audio.name, instantiate(config.audio).dim, model.network.audio_encoder.in_dim)
    latents = find_latents(config, words) if one_of_several_processes() else encode_data(config)
    assert latents is not None  # all clips are one shard
    datamodule = instantiate(config.data, latents=str(latents.folder))
    return datamodule, instantiate(config.model, basis=latents.basis)


def one_of_several_processes() -> bool:
    """Whether torchrun, Slurm or Lightning's launcher has started several processes of this run."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    tasks = os.environ.get("SLURM_NTASKS", "1") if SLURMEnvironment.detect() else "1"
    return max(int(os.environ.get("WORLD_SIZE", "1")), int(tasks)) > 1


def _refuse_folder_for_each_process(config: DictConfig) -> None:
    """Refuse a time stamp in ``run_dir`` where processes that know nothing of each other would each read another clock."""
    stamped = "${now:" in str(OmegaConf.to_container(config, resolve=False)["run_dir"])  # type: ignore[index, call-overload]
    several = one_of_several_processes() or (config.trainer or {}).get("num_nodes", 1) > 1
    if stamped and several and folder_of_first_process() is None:
        raise UserError(
            "several processes would each write to a run_dir of their own time: give run_dir=FOLDER"
        )


def refuse_more_processes_than_cores(config: DictConfig) -> None:
    """UserError where more processes would train on CPUs than there are cores, which can bring a machine down."""
    from lightning.pytorch.accelerators import CPUAccelerator

    trainer, cores = instantiate(config.trainer, logger=False), cores_at_hand()
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        raise UserError(
            f"trainer.devices={trainer.num_devices}: on CPUs each is a process, and {cores} cores are at hand; use "
            f"{cores} at most"
        )


def _refuse_callbacks_of_another_stage(callbacks: "Sequence[Callback]", stage: str) -> None:
    """Refuse what could not show or judge this stage, before its latents are computed."""
    for callback in callbacks:
        made_for = getattr(callback, "made_for", None)
        if made_for not in (None, stage):
            raise UserError(
                f"{type(callback).__name__} is made for stage '{made_for}', not '{stage}': choose callbacks for this stage, "
                "such as callbacks=default"
            )


def _check_batch_norm(trainer: "Trainer", model: "LightningModule", synced: bool) -> None:
    """Tell where batch norm sees the items of one process alone; refuse to synchronise it where that can't be done."""
    from torch.nn.modules.batchnorm import _BatchNorm

    layers = sum(isinstance(layer, _BatchNorm) for layer in model.modules())
    if trainer.world_size == 1 or not layers:
        return
    gpu = trainer.strategy.root_device.type == "cuda"
    if synced and not gpu:
        raise UserError("trainer.sync_batchnorm=true needs GPUs: leave it out, or train with group norm")
    if not synced and trainer.is_global_zero:
        told = "add trainer.sync_batchnorm=true" if gpu else "train on GPUs with trainer.sync_batchnorm=true"
        log.warning(
            "%d layers of batch norm see the items of their process alone: %s, or take group norm",
            layers,
            told,
        )


def _refuse_unknown_monitor(trainer: "Trainer", error: Exception) -> None:
    """Tell in one line that a callback monitors what nobody logs, if that is what ended the training."""
    known = sorted(trainer.callback_metrics)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = getattr(callback, "monitor", None)
        if name is not None and name not in known and name in str(error):
            raise UserError(
                f"{type(callback).__name__} monitors '{name}', which nothing logs; there are: {', '.join(known)}"
            ) from error


def _other_process(error: Exception) -> str | None:
    """What to say where a training ends because another of its processes has; None where it ends by itself."""
    from torch.distributed import DistError
    from torch.multiprocessing.spawn import ProcessException

    text = str(error)
    if isinstance(error, ProcessException) and "datamodules.errors.UserError: " in text:
        return text
    if isinstance(error, ProcessException | DistError) or "gloo" in text:
        return "another process of this training has ended, and so this one does; the last checkpoint is kept"
    if text.startswith("DataLoader worker"):
        return f"{text.splitlines()[0]}; perhaps for lack of memory: try a smaller data.num_workers"
    return None


def _lift(model: Any, path: str) -> None:
    """Start stage 1 from a trained autoencoder of half the size."""
    from lightning_modules.checkpoints import load_autoencoder
    from lightning_modules.networks.progressive_growing import grow

    try:
        grow(load_autoencoder(path)[0], model.network)
    except ValueError as error:
        raise UserError(f"{path}: can't be lifted to this model: {error}") from error


def _checked(config: DictConfig) -> dict[str, Any]:
    """The resolved config, of which everything is refused that can be before anything slow is imported."""
    if not config.get("name") or config.get("model") is None:
        raise UserError(f"train needs experiment=NAME; there are: {', '.join(config_names('experiment'))}")
    plain = resolve(config)
    check_numbers(plain)
    if started_again(plain["run_dir"]):
        plain["resume"] = "last"
    checkpoint_to_resume(plain["resume"], run_folder(plain))
    stage, data, network = plain["stage"], plain["data"], plain["model"].get("network") or {}
    if stage not in STAGES:
        raise UserError(f"stage={stage} is unknown; choose one of {', '.join(STAGES)}")
    if plain["lift"] and stage != "autoencoder":
        raise UserError(
            f"lift={plain['lift']}: only stage 'autoencoder' can start from a smaller autoencoder"
        )
    if data["task"] == "motion_windows" and not plain["autoencoder"]:
        raise UserError(f"stage '{stage}' needs autoencoder=PATH, a run or model with a trained stage 1")
    if data["task"] == "frame_pairs":
        check_sides(data["size"], network.get("size", data["size"]))
    if plain["lift"] and plain["init"]:
        raise UserError("lift= and init= both say what to start from: give one of them")
    for key in SOURCES:
        if plain[key]:
            require_source(key, plain[key])
    return plain
