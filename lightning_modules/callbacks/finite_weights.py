"""Ends a training that diverges, before its last good checkpoint is written over."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.errors import UserError


class FiniteWeights(Callback):
    """Looks whether all weights are finite: before each checkpoint, on a CPU after every batch, else whenever it is logged.

    A flow that is NaN need not show in the loss (see ``sample_in_border``), but does in the weights after the step.

    Args:
        run_dir: whose checkpoints the message names.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look; waiting for a GPU after every batch would slow it down."""
        if pl_module.device.type == "cpu" or trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._require_finite(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before a checkpoint is written."""
        self._require_finite(trainer, pl_module)

    def _require_finite(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        if not torch.nn.utils.get_total_norm(weights, norm_type=float("inf")).isfinite():
            raise UserError(diverged(trainer.global_step, self.run_dir))


def diverged(step: int, run_dir: Path | str) -> str:
    """What to say of a training that ended at ``step``."""
    kept = [
        path for name in ("best", "last") if (path := Path(run_dir) / f"checkpoints/{name}.ckpt").is_file()
    ]
    told = f"its last good checkpoint is {kept[-1]}" if kept else "it has no checkpoint yet"
    return (
        f"the training diverged: weights or loss are NaN or infinite at step {step}; {told}; try a smaller "
        "model.optimizer.lr, or look for bad data"
    )
