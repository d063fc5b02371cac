"""Which checkpoint a training goes on from, and whether it can."""

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import UserError
from experiments.run_folder import checkpoints_of

if TYPE_CHECKING:
    from lightning_modules.checkpoints import NetworkRecord

RESUMED = ("epoch", "global_step", "loops", "callbacks", "lr_schedulers", "pytorch-lightning_version")
"""What Lightning reads of a checkpoint beside weights and optimizers."""
RESTORING = ("checkpoint_connector.py", "random_state.py")
"""Modules that put it back."""
UNKNOWN_BEFORE = "audio.identity"
"""What records of older runs don't say."""


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


def refuse_other_network(resume: Path, run_dir: Path, record: "NetworkRecord", model: Any) -> None:
    """Refuse to continue a checkpoint in another network, which would leave a folder whose record and weights differ.

    Args:
        resume: the checkpoint.
        run_dir: where the run goes; what was trained there before must be of that network, too.
        record: of the network that is about to be trained.
        model: its LightningModule.

    Raises:
        UserError: names the first difference; or the checkpoint is damaged, is not finite or can't be continued.
    """
    from torch import Tensor

    from lightning_modules.checkpoints import (
        RECORD_NAME,
        other_checkpoint,
        read_checkpoint,
        read_network_record,
    )

    new = _meaning(record)
    for checkpoint in dict.fromkeys([resume, *checkpoints_of(run_dir)]):
        if not any((folder / RECORD_NAME).exists() for folder in checkpoint.resolve().parents[:2]):
            continue
        old = _meaning(read_network_record(checkpoint))
        for key in dict.fromkeys([*old, *new]):
            if key == UNKNOWN_BEFORE and None in (old.get(key), new.get(key)):
                continue
            if old.get(key) != new.get(key):
                raise UserError(
                    f"{checkpoint}: trained with {key}={old.get(key)}, which is {new.get(key)} now: resume with the same "
                    "settings, or start a fresh run in another run_dir"
                )
    content = read_checkpoint(resume)
    for name, value in _leaves({key: content.get(key) for key in ("state_dict", "optimizer_states")}).items():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise UserError(
                f"{resume}: {name} holds values that are NaN or infinite, so it can't be resumed; {other_checkpoint(resume)}"
            )
    states = content.get("optimizer_states") or [None]
    if not all(isinstance(state, dict) and state.keys() >= {"state", "param_groups"} for state in states):
        raise UserError(f"{resume}: holds no state of an optimizer, so it can't be resumed")
    if lacking := [key for key in RESUMED if key not in content]:
        raise UserError(f"{resume}: lacks {', '.join(lacking)}, so it can't be resumed")
    had = {name: tuple(value.shape) for name, value in content["state_dict"].items()}
    needed = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in dict.fromkeys([*needed, *had]):
        if had.get(name) != needed.get(name):
            raise UserError(
                f"{resume}: can't be resumed in this model: {name} is {had.get(name, 'missing')}, "
                f"expected {needed.get(name, 'none')}"
            )


def _meaning(record: "NetworkRecord") -> dict[str, Any]:
    """What a record says by dotted key, with the defaults of what it doesn't say."""
    from lightning_modules.networks.registry import NETWORKS, whole_spec

    said = asdict(record)
    if said["network"].get("name") in NETWORKS:
        said["network"] = whole_spec(said["network"])
    return _leaves(json.loads(json.dumps(said)))


def _leaves(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values of nested mappings and lists by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        found |= _leaves(inner, f"{above}{key}.") if isinstance(inner, dict) else {f"{above}{key}": value}
    return found


def refuse_unrestored(resume: Path, error: Exception) -> None:
    """Tell in one line that a checkpoint's state can't be put back into the trainer, if that is what ended the training."""
    from lightning_modules.checkpoints import other_checkpoint

    places = {Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)}
    if places.intersection(RESTORING):
        raise UserError(
            f"{resume}: holds a state that can't be put back ({type(error).__name__}: {error}), so it can't be resumed; "
            f"{other_checkpoint(resume)}"
        ) from error
