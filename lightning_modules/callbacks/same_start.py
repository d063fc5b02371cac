"""Several processes begin to draw where one would."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SameStart(Callback):
    """Puts the random state of torch's CPU generator back as it was when this was made.

    Lightning seeds anew in every process of several, so that they would draw what the start of the model was drawn of.
    """

    def __init__(self) -> None:
        self._state = torch.get_rng_state()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where several processes train; what is resumed goes on later, see `RandomState`."""
        if trainer.world_size > 1:
            torch.set_rng_state(self._state)
