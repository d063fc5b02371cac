"""The learning-rate schedule of all stages."""

import math
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

Scheduler = Callable[..., LRScheduler]
"""Partial of a schedule, called with an optimizer and ``total_steps``."""


def warmup_cosine(
    optimizer: Optimizer, total_steps: float, warmup_steps: int = 0, final_factor: float = 0.0
) -> LambdaLR:
    """Linear rise, then half a cosine down to a share of the learning rate (arXiv 1608.03983, eq. 5); steps are batches.

    Args:
        optimizer: Optimizer to steer.
        total_steps: Batches of the whole training; infinite keeps the learning rate after the rise.
        warmup_steps: Batches of the rise.
        final_factor: What is left of the learning rate at the end, as a share of it.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        if math.isinf(total_steps):
            return rise
        progress = min(1.0, max(0.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps)))
        return rise * (final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, factor)


def scheduled(optimizer: Optimizer, scheduler: Scheduler | None, trainer: Trainer) -> dict[str, Any]:
    """An optimizer and its schedule over the batches that this trainer will run, as ``configure_optimizers`` returns them."""
    if scheduler is None:
        return {"optimizer": optimizer}
    schedule = scheduler(optimizer, total_steps=trainer.estimated_stepping_batches)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
