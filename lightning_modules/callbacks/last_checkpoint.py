"""The checkpoint that training is resumed from."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: written after every validation, and at the end of a training that stops between two.

    Not at the end of every epoch: Lightning counts an epoch twice when it resumes from a checkpoint of that moment, and
    the order of the data would no longer be that of an uninterrupted run.

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.saved_step = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless it is a validation without a training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where no validation will."""
        ends = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if ends or not trainer.enable_validation:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step != self.saved_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.saved_step = trainer.global_step
            trainer.save_checkpoint(self.path, weights_only=False)
