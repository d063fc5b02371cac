"""How trainings write their checkpoints: whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from datamodules.files import whole_output


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: Lightning's own goes by the system's temporary folder."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write it into the folder ``path.parent``, which may be made, in one that is there."""
        path = Path(path)
        path.parent.mkdir(exist_ok=True)
        with whole_output(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
