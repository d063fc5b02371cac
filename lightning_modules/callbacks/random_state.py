"""The random state of a training, kept with its checkpoints: what is resumed draws what the uninterrupted run would."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Keeps the random states of Python, NumPy and torch of each process in checkpoints, and puts them back.

    They are put back where the training goes on, not where the checkpoint is loaded: in between loaders and fits draw, too.
    A checkpoint of another number of processes leaves them as they are.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add ``random_state``, one for each process, which all save together."""
        states: list[Any] = [read_random_state(pl_module.device)] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["random_state"] = states

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember this process's own; checkpoints of older versions have none."""
        states = checkpoint.get("random_state", [])
        self._kept = states[trainer.global_rank] if len(states) == trainer.world_size else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on in a new epoch: before its loader is made."""
        self._put_back(pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Go on within an epoch."""
        self._put_back(pl_module)

    def _put_back(self, pl_module: LightningModule) -> None:
        if self._kept is not None:
            write_random_state(self._kept, pl_module.device)
            self._kept = None


def read_random_state(device: torch.device) -> dict[str, Any]:
    """Random states of Python, NumPy, torch and, if ``device`` is one, the GPU: plain values and tensors."""
    numpy_state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (str(kind), keys.tolist(), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def write_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `read_random_state` gave; a GPU's only on a GPU."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
