"""Callbacks that put down what each process of a training has."""

import atexit
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class Gradients(Callback):
    """Gradients of each step, by name, in ``FOLDER/STEP.pt``."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        self.folder.mkdir(exist_ok=True)
        found = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        if trainer.is_global_zero:
            torch.save(found, self.folder / f"{trainer.global_step}.pt")


class Weights(Callback):
    """State at the end of each process in ``FOLDER/RANK.pt``, and in ``RANK.txt`` whether it exits in a group."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        self.folder.mkdir(exist_ok=True)
        torch.save(pl_module.state_dict(), self.folder / f"{trainer.global_rank}.pt")
        atexit.register(self._at_exit, trainer.global_rank)

    def _at_exit(self, rank: int) -> None:
        (self.folder / f"{rank}.txt").write_text(str(torch.distributed.is_initialized()))
