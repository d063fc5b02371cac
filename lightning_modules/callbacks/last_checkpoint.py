"""The checkpoint that training is resumed from."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``: written after every validation, and at the end of a training that stops between two.

    Not at the end of every epoch: Lightning counts an epoch twice when it resumes from a checkpoint of that moment, and
    the order of the data would no longer be that of an uninterrupted run.

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath, filename="last", save_on_train_epoch_end=False, enable_version_counter=False
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where no validation will."""
        ends = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        saved = self._last_global_step_saved == trainer.global_step
        if (
            (ends or not trainer.enable_validation)
            and not saved
            and not self._should_skip_saving_checkpoint(trainer)
        ):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
