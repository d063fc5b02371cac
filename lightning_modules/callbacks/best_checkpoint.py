"""The checkpoint with the best value of a measure."""

import warnings
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, except that a value that is NaN or infinite is never the best, not even where it is the first."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning's, without its warning that the folder holds checkpoints: where a run is resumed it should."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Lightning's, and a training that ends before its time, or with it, is judged once more, in whatever epoch it ends.

        Else one with a time limit would have for its best what was there at the last epoch that is validated.
        """
        if trainer.should_stop and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1
        super().on_train_batch_end(trainer, *args)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether ``current`` is a number and among the best."""
        finite = trainer.strategy.reduce_boolean_decision(current is None or bool(current.isfinite()))
        return finite and super().check_monitor_top_k(trainer, current)

    @property
    def state_key(self) -> str:
        """Lightning's, by which older checkpoints keep its state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)
