"""The folder of a run: where it is, what is continued in it, and what a training writes there besides its checkpoints."""

import json
import os
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer

from datamodules.errors import UserError
from datamodules.files import write_text
from experiments.run_identity import machine_facts, run_identity
from lightning_modules.checkpoints import load_autoencoder, weights_hash, write_network_record

RUN_DIR_VARIABLE = "IFMDM_RUN_DIR"
"""Tells the processes that Lightning's DDP launcher starts where the first process writes."""


def new_run_dir(plain: dict[str, Any]) -> Path:
    """Folder of the run: the first process's own, in further processes of the same run the first one's.

    Raises:
        UserError: it holds a trained run that is not to be continued.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" and RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    run_dir = Path(plain["run_dir"]).resolve()
    os.environ[RUN_DIR_VARIABLE] = str(run_dir)
    if plain["resume"] is None and any((run_dir / "checkpoints").glob("*.ckpt")):
        raise UserError(
            f"{run_dir}: already holds a trained run; choose another run_dir, or resume=last to continue it"
        )
    return run_dir


def checkpoint_to_resume(resume: str | None, run_dir: Path) -> Path | None:
    """Checkpoint to continue from: ``last`` of this run folder, a file, or the last one of another run folder.

    Raises:
        UserError: there is none.
    """
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


def write_start(run_dir: Path, plain: dict[str, Any], model: Any) -> None:
    """Write ``config.yaml``, for people, and ``network.json``, which programs read back.

    Args:
        run_dir: made if it isn't there.
        plain: the resolved config.
        model: the LightningModule that is about to be trained.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    on_latents = plain["data"]["task"] == "motion_windows"
    space = weights_hash(load_autoencoder(plain["autoencoder"])[0]) if on_latents else None
    diffusion = model.diffusion.settings() if hasattr(model, "diffusion") else None
    audio = plain["audio"] if on_latents else None
    write_network_record(run_dir, plain["stage"], model.network, diffusion, audio, space)


def write_end(
    run_dir: Path, plain: dict[str, Any], trainer: Trainer, metrics: dict[str, float], seconds: float
) -> None:
    """Write ``run.json``: what was run, for how long (in seconds), with what last values, on what machine."""
    record = {
        "identity": run_identity(plain),
        "stage": plain["stage"],
        "name": plain["name"],
        "seed": plain["seed"],
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "devices": trainer.num_devices * trainer.num_nodes,
        "seconds": round(seconds, 1),
        "metrics": metrics,
        "machine": machine_facts(),
    }
    write_text(run_dir / "run.json", json.dumps(record, indent=2) + "\n")
