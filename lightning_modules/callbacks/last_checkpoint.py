"""The checkpoint that training is resumed from."""

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: written after every validation, and where a training stops between two.

    Not at the end of an epoch, but after its last batch: Lightning counts an epoch twice when it resumes from a checkpoint
    of its end, and the order of the data would no longer be that of an uninterrupted run.

    A process that is told to end (SIGTERM, to any of the processes of a training) saves after the batch, or the validation,
    that it is at. So it does where Slurm warns one (``--signal=SIGUSR1@120``), and then asks for the job to be started again.

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self._told: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals from Lightning, whose handlers talk to the other processes in the middle of a step."""
        if threading.current_thread() is threading.main_thread() and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for number in (signal.SIGTERM, signal.SIGUSR1)[: 1 + SLURMEnvironment.detect()]:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self._told is not None:  # the second time: at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._told = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where no validation will, and where the training ends here."""
        stops = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        validates = last and trainer.enable_validation  # which comes first, and ends it
        ends = not validates and self._is_told(trainer)
        if stops or ends or (last and not trainer.enable_validation):
            self._save(trainer)
        if ends:
            self._end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless it is a validation without a training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)
            if self._is_told(trainer):
                self._end(trainer)

    def _is_told(self, trainer: Trainer) -> bool:
        """Whether any process was told to end; all of them ask."""
        return trainer.strategy.reduce_boolean_decision(self._told is not None, all=False)

    def _end(self, trainer: Trainer) -> None:
        requeue = trainer.strategy.reduce_boolean_decision(self._told == signal.SIGUSR1, all=False)
        if trainer.is_global_zero:
            name = "SIGUSR1" if requeue else "SIGTERM"
            log.info("told to end by %s: saved %s", name, self.path)
        if requeue and trainer.is_global_zero:
            job = os.environ["SLURM_JOB_ID"]
            if "SLURM_ARRAY_JOB_ID" in os.environ:
                job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
            try:
                subprocess.run(["scontrol", "requeue", job], check=False)
            except OSError as error:
                log.warning("job %s is not started again: scontrol can't be run (%s)", job, error)
        raise SIGTERMException(
            128 + signal.SIGTERM
        )  # without a number a child of a fork would tell its parent nothing

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path, weights_only=False)
