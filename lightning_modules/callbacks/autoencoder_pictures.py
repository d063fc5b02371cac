"""Sample pictures of the motion autoencoder: what a validation looks like, as PNG files and in the tracker."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from datamodules.batches import FramePairBatch
from datamodules.files import whole_output
from datamodules.media.pictures import to_uint8
from lightning_modules.callbacks.clip_rendering import require_autoencoder


class SamplePictures(Callback):
    """Writes a contact sheet of the first validation batch: source, driving, reconstruction, warped source, mask.

    It works while the validation runs, so that averaged weights (EMA) are the ones that are shown.

    Args:
        folder: where ``step_NNNNNN.png`` is written.
        count: rows, i.e. pairs, at most.
    """

    made_for = "autoencoder"

    def __init__(self, folder: str, count: int = 4) -> None:
        self.folder = folder
        self.count = count

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module of another stage before it is trained; see ``require_autoencoder``."""
        require_autoencoder(pl_module, self)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: FramePairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Render and write the sheet on the first process, for the first batch."""
        if batch_idx or dataloader_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        from PIL import Image

        sheet = contact_sheet(pl_module, batch, self.count)
        step = trainer.global_step
        path = Path(self.folder) / f"step_{step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_output(path) as temporary:
            Image.fromarray(sheet.numpy()).save(temporary)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/samples", sheet, step, dataformats="HWC")


@torch.no_grad()
def contact_sheet(module: LightningModule, batch: FramePairBatch, count: int) -> Tensor:
    """Render up to ``count`` pairs by a motion autoencoder: uint8 ``(rows * S, 5 * S, 3)``.

    One pair a row; the columns are source, driving, reconstruction, warped source and mask (white: taken from the source),
    the last two where the renderer has them.
    """
    source, driving = batch.source[:count], batch.driving[:count]
    network: Any = module.network
    decoded = network.decode(network.encode(source), network.motion(driving))
    mask = None if decoded.mask is None else (decoded.mask * 2 - 1).expand_as(source)
    shown = [source, driving, decoded.frame, decoded.warped, mask]
    columns = torch.stack([pictures for pictures in shown if pictures is not None], dim=1)  # (R, 5, 3, S, S)
    pixels = to_uint8(columns).cpu().permute(0, 3, 1, 4, 2)  # (R, S, 5, S, 3)
    return pixels.flatten(2, 3).flatten(0, 1).contiguous()
