"""The checkpoint with the best value of a measure."""

import warnings

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

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether ``current`` is a number and among the best."""
        finite = trainer.strategy.reduce_boolean_decision(current is None or bool(current.isfinite()))
        return finite and super().check_monitor_top_k(trainer, current)

    @property
    def state_key(self) -> str:
        """Lightning's, by which older checkpoints keep its state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)
