"""Progress of a training: a bar on a terminal, plain lines otherwise."""

import logging
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar

log = logging.getLogger(__name__)


class PlainProgress(ProgressBar):
    """Logs one line every some seconds and one after each validation, for log files and pipes.

    Args:
        seconds: least time between two lines of a running epoch.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._started = self._latest = time.monotonic()

    def enable(self) -> None:
        """Let lines be written again."""
        self._enabled = True

    def disable(self) -> None:
        """Write no lines; Lightning calls this on all processes but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = self._latest = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a line where the last one is old enough."""
        if time.monotonic() - self._latest >= self.seconds:
            self._say(trainer, pl_module, batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the measures of a validation."""
        if not trainer.sanity_checking:
            self._say(trainer, pl_module, trainer.fit_loop.epoch_loop.batch_progress.current.completed)

    def _say(self, trainer: Trainer, pl_module: LightningModule, batch: int) -> None:
        self._latest = time.monotonic()
        if not self._enabled:
            return
        total = trainer.num_training_batches
        logged = self.get_metrics(trainer, pl_module).items()  # with ``prog_bar=True``
        measures = "  ".join(f"{k} {v:.4g}" for k, v in logged if isinstance(v, int | float))
        log.info(
            "%4.0f s  epoch %d  batch %d/%s  step %d  %s",
            self._latest - self._started,
            trainer.current_epoch,
            batch,
            total if isinstance(total, int) else "?",
            trainer.global_step,
            measures,
        )


def progress_bar(seconds: float = 15.0) -> ProgressBar:
    """Bar where standard error is a terminal, else lines every ``seconds``."""
    return TQDMProgressBar(refresh_rate=5) if sys.stderr.isatty() else PlainProgress(seconds)
