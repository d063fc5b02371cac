"""``ifmdm train``: trains one stage from a config and leaves a run folder that says how it came about."""

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, OverrideParseException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from datamodules.errors import UserError
from datamodules.files import require_output_folder, whole_output
from experiments.config import (
    CONFIG_FOLDER,
    compose,
    config_error_line,
    config_names,
    instantiate,
    instantiate_all,
    resolve,
)
from experiments.locks import one_process_at_a_time

if TYPE_CHECKING:  # Lightning takes seconds to import: a wrong word is refused before that
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

    from lightning_modules.motion_autoencoder import MotionAutoencoderModule

log = logging.getLogger(__name__)

STAGES = ("autoencoder", "statistics", "diffusion", "sync")
FROM_FRAMES = ("autoencoder", "sync")
"""Stages that learn from frames and sound alone, without a trained autoencoder."""
RUN_DIR_VARIABLE = "IFMDM_RUN_DIR"
"""Tells the processes that Lightning's DDP launcher starts where the first process writes."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind.

    Attributes:
        run_dir: holds ``config.yaml``, ``run.json``, ``checkpoints/``, ``metrics/``, ``tensorboard/`` and ``samples/``.
        checkpoint: the last one, ``run_dir/checkpoints/last.ckpt``.
        metrics: last logged values by name, e.g. ``val/loss``.
    """

    run_dir: Path
    checkpoint: Path
    metrics: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm train``."""
    parser.description = "Train one stage. Experiments: " + ", ".join(config_names("experiment")) + "."
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="one run for each combination of a,b,c values"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, experiment=NAME first of all"
    )


def run(args: argparse.Namespace) -> int:
    """Train as the command line says."""
    return train_main(args.overrides, multirun=args.multirun)


def train_main(overrides: Sequence[str], multirun: bool = False) -> int:
    """Compose and train; with ``multirun`` once for each combination, through the launcher that the config names.

    Raises:
        UserError: the overrides do not compose, or the run cannot start as asked.
    """
    if not multirun:
        result = run_training(compose(overrides))
        log.info("run: %s\ncheckpoint: %s", result.run_dir, result.checkpoint)
        return 0
    with _words_of_process(["--multirun", *overrides]), _environment("HYDRA_FULL_ERROR", "1"):
        decorate = hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="train")
        try:
            decorate(multirun_job)()
        except (ConfigCompositionException, OverrideParseException, OmegaConfBaseException) as error:
            raise UserError(config_error_line(error)) from error
    return 0


def multirun_job(config: DictConfig) -> dict[str, float]:
    """One job of a multirun, in the folder that Hydra gives it."""
    refuse_script_launcher(config)
    with open_dict(config):
        config.run_dir = HydraConfig.get().runtime.output_dir
    return run_training(config).metrics


def refuse_script_launcher(config: DictConfig) -> None:
    """Refuse several devices a job where Lightning would start the other processes by repeating the command line.

    Inside a multirun each of these would enter the sweep again and train with other settings, without an error.

    Raises:
        UserError: the combination is the dangerous one.
    """
    strategy = str(config.trainer.get("strategy", "auto"))
    outside = any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))
    if outside or "spawn" in strategy or "fork" in strategy:
        return
    if (
        device_count(config.trainer.get("devices", "auto"), str(config.trainer.get("accelerator", "auto")))
        > 1
    ):
        raise UserError(
            "multirun with trainer.devices > 1 would train other settings on other devices: set trainer.devices=1, "
            "start each run by torchrun or Slurm, or use trainer.strategy=ddp_spawn"
        )


def device_count(devices: Any, accelerator: str) -> int:
    """How many devices Lightning would take for its ``devices`` argument on this machine."""
    import torch

    available = 1 if accelerator == "cpu" else max(1, torch.cuda.device_count())
    if isinstance(devices, str) and "," in devices:
        return len([d for d in devices.split(",") if d.strip()])
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, int):
        return available if devices == -1 else devices
    return available if isinstance(devices, str) else len(devices)


def run_training(config: DictConfig) -> TrainingResult:
    """Train the stage that the config describes.

    Stages 2 and 3 first compute the latents of their data with the autoencoder that ``autoencoder`` names (kept for the
    next run) and fit the motion basis; the model is built with that basis.

    Args:
        config: composed from ``configs/train.yaml``.

    Raises:
        UserError: no experiment, no autoencoder for stages 2 and 3, an occupied run folder, nothing to resume, callbacks
            of another stage, a monitored value that nobody logs.
    """
    started = time.monotonic()
    _check(config)
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from experiments.run_identity import machine_facts, run_identity
    from lightning_modules.checkpoints import find_checkpoint, load_autoencoder, weights_hash

    config = config.copy()
    for key in ("autoencoder", "lift"):
        if config[key]:
            config[key] = str(find_checkpoint(config[key]))
    plain = resolve(config)
    _check_sizes(plain)
    run_dir = require_output_folder(_run_dir(plain))
    resume = _resume_path(plain["resume"], run_dir)
    # First of all: what is wrong is refused before any data is made.
    callbacks = instantiate_all(config.callbacks)
    _refuse_callbacks_of_another_stage(callbacks, plain["stage"])
    trainer: Trainer = instantiate(config.trainer, callbacks=callbacks, logger=instantiate_all(config.logger))
    seed_everything(plain["seed"], workers=True, verbose=False)
    datamodule, model = build_stage(config, *started_together(trainer))
    if trainer.is_global_zero:
        run_dir.mkdir(parents=True, exist_ok=True)
        if plain["autoencoder"]:
            plain["motion_space"] = weights_hash(load_autoencoder(plain["autoencoder"])[0])
        _write_text(run_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    try:
        trainer.fit(
            model, datamodule=datamodule, ckpt_path=None if resume is None else str(resume), weights_only=True
        )
    except (MisconfigurationException, RuntimeError) as error:
        _refuse_unknown_monitor(trainer, error)
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():  # a fast_dev_run keeps none
        trainer.save_checkpoint(checkpoint)
    if trainer.is_global_zero:
        record = {
            "identity": run_identity(resolve(config)).as_dict(),
            "stage": plain["stage"],
            "name": plain["name"],
            "seed": plain["seed"],
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "devices": trainer.num_devices * trainer.num_nodes,
            "seconds": round(time.monotonic() - started, 1),
            "metrics": metrics,
            "machine": machine_facts(),
        }
        _write_text(run_dir / "run.json", json.dumps(record, indent=2) + "\n")
    return TrainingResult(run_dir, checkpoint, metrics)


def _refuse_callbacks_of_another_stage(callbacks: "Sequence[Callback]", stage: str) -> None:
    """Refuse what could not show or judge this stage, before its latents are computed.

    Raises:
        UserError: a callback is ``made_for`` another stage.
    """
    for callback in callbacks:
        made_for = getattr(callback, "made_for", None)
        if made_for not in (None, stage):
            raise UserError(
                f"{type(callback).__name__} is made for stage '{made_for}', not '{stage}': choose callbacks for this stage, "
                "such as callbacks=default"
            )


def _refuse_unknown_monitor(trainer: "Trainer", error: Exception) -> None:
    """Tell in one line that a callback monitors what nobody logs, if that is what ended the training.

    Raises:
        UserError: So it is.
    """
    known = sorted(trainer.callback_metrics)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = getattr(callback, "monitor", None)
        if name is not None and name not in known and name in str(error):
            raise UserError(
                f"{type(callback).__name__} monitors '{name}', which nothing logs; there are: {', '.join(known)}"
            ) from error


def started_together(trainer: "Trainer") -> tuple[int, int]:
    """Rank of this process, and how many there are already: all where torchrun or Slurm started them.

    Where Lightning starts the others itself, it does so when training begins.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or not environment.creates_processes_externally:
        return 0, 1
    return environment.global_rank(), environment.world_size()


def sharing_a_disk(datamodule: "LightningDataModule", rank: int, ranks: int) -> tuple[int, int]:
    """Rank and number of those who see the same latent cache: all, but with a stream each alone.

    A stream's cache may lie on a disk of each machine's own; its processes wait for each other there.
    """
    from datamodules.streaming import StreamingDataModule

    return (0, 1) if isinstance(datamodule, StreamingDataModule) else (rank, ranks)


def build_stage(
    config: DictConfig, rank: int = 0, ranks: int = 1
) -> "tuple[LightningDataModule, LightningModule]":
    """Data and model of a stage; prepares synthetic data and latents where they are not there yet.

    Several ``ranks`` that are here together share the work of the latents.
    """
    if config.stage in FROM_FRAMES:
        datamodule, model = instantiate(config.data), instantiate(config.model)
        with one_process_at_a_time(datamodule.root):
            _prepare(datamodule)
        if config.lift:
            _lift(model, Path(config.lift))
        return datamodule, model
    from experiments.latents import ensure_latents
    from lightning_modules.checkpoints import load_autoencoder

    autoencoder, _ = load_autoencoder(config.autoencoder)
    frames = instantiate(config.data, task="frame_pairs", latents=None)
    frontend = instantiate(config.audio)
    with one_process_at_a_time(frames.root):
        _prepare(frames)
    rank, ranks = sharing_a_disk(frames, rank, ranks)
    records = [record for split in ("train", "val") for record in frames.records(split)]
    folder, basis = ensure_latents(autoencoder, frontend, records, frames.store(), rank=rank, ranks=ranks)
    return instantiate(config.data, latents=str(folder)), instantiate(config.model, basis=basis)


def _prepare(datamodule: "LightningDataModule") -> None:
    """Make the data where it is not there yet, and tell how far it is."""
    from datamodules.synthetic import SyntheticDataModule
    from experiments.progress import show_progress

    if not isinstance(datamodule, SyntheticDataModule):
        datamodule.prepare_data()
        return
    with show_progress("rendering clips") as progress:
        datamodule.progress = progress
        datamodule.prepare_data()
    datamodule.progress = None


def _lift(model: "MotionAutoencoderModule", path: Path) -> None:
    """Start stage 1 from a trained autoencoder of half the size."""
    from lightning_modules.checkpoints import load_autoencoder
    from lightning_modules.networks.lifting import lift

    try:
        lift(load_autoencoder(path)[0], model.network)
    except ValueError as error:
        raise UserError(f"{path}: can't be lifted to this model: {error}") from error


def _check(config: DictConfig) -> None:
    if not config.get("name") or config.get("model") is None:
        raise UserError(f"train needs experiment=NAME; there are: {', '.join(config_names('experiment'))}")
    if config.stage not in STAGES:
        raise UserError(f"stage={config.stage} is unknown; choose one of {', '.join(STAGES)}")
    if config.lift and config.stage != "autoencoder":
        raise UserError(f"lift={config.lift}: only stage 'autoencoder' can start from a smaller autoencoder")
    if config.stage not in FROM_FRAMES and not config.autoencoder:
        raise UserError(
            f"stage '{config.stage}' needs autoencoder=PATH, the run folder or checkpoint of a trained stage 1"
        )


def _check_sizes(plain: dict[str, Any]) -> None:
    """Refuse a model for another size than the frames it would get, before any are rendered."""
    network, size = (plain["model"].get("network") or {}).get("size"), plain["data"].get("size")
    if plain["stage"] == "autoencoder" and network is not None and network != size:
        raise UserError(f"data.size is {size} but model.network.size is {network}: set data.size alone")


def _run_dir(plain: dict[str, Any]) -> Path:
    """Folder of the run: the first process's own, in further processes of the same run the first one's."""
    if os.environ.get("LOCAL_RANK", "0") != "0" and RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    run_dir = Path(plain["run_dir"]).resolve()
    os.environ[RUN_DIR_VARIABLE] = str(run_dir)
    if plain["resume"] is None and any((run_dir / "checkpoints").glob("*.ckpt")):
        raise UserError(
            f"{run_dir}: already holds a trained run; choose another run_dir, or resume=last to continue it"
        )
    return run_dir


def _resume_path(resume: str | None, run_dir: Path) -> Path | None:
    """Checkpoint to continue from: ``last`` of this run folder, a file, or the last one of another run folder."""
    if resume is None:
        return None
    path = run_dir if resume == "last" else Path(resume)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise UserError(
            f"{path}: no checkpoint to resume from; give resume=FILE, or run_dir=FOLDER with resume=last"
        )
    return path


def _write_text(path: Path, text: str) -> None:
    with whole_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _words_of_process(words: list[str]) -> Iterator[None]:
    """Hydra's launchers read ``sys.argv``: give them these words."""
    kept, sys.argv = sys.argv, ["ifmdm train", *words]
    try:
        yield
    finally:
        sys.argv = kept


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while; here: let Hydra hand errors to the caller instead of exiting."""
    kept = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if kept is None:
            del os.environ[name]
        else:
            os.environ[name] = kept
