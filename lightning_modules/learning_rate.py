"""The learning-rate schedule of all stages."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

Scheduler = Callable[..., LRScheduler]
"""Partial of a schedule, called with an optimizer and ``total_steps``."""


def warmup_cosine(
    optimizer: Optimizer,
    total_steps: float,
    warmup_steps: int = 0,
    final_factor: float = 0.0,
    elapsed: Callable[[], float] = lambda: 0.0,
) -> LambdaLR:
    """Linear rise, then half a cosine down to a share of the learning rate (arXiv 1608.03983, eq. 5); steps are batches.

    Args:
        optimizer: Optimizer to steer.
        total_steps: Batches of the whole training; infinite keeps the learning rate after the rise.
        warmup_steps: Batches of the rise.
        final_factor: What is left of the learning rate at the end, as a share of it.
        elapsed: Says what share of the time is over, where the training has a limit: the fall is as far as batches or time
            are, whichever is further.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        by_steps = (
            0.0 if math.isinf(total_steps) else (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
        )
        progress = min(1.0, max(0.0, by_steps, elapsed()))
        if progress == 0:
            return rise
        return rise * (final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, factor)


def scheduled(optimizer: Optimizer, scheduler: Scheduler | None, trainer: Trainer) -> dict[str, Any]:
    """An optimizer and its schedule over what this trainer will run, as ``configure_optimizers`` returns them.

    That is so many batches, or so much time (``max_time``), whichever ends first.
    """
    if scheduler is None:
        return {"optimizer": optimizer}
    limits: dict[str, Any] = {"total_steps": trainer.estimated_stepping_batches}
    if timers := [one for one in trainer.callbacks if isinstance(one, Timer)]:  # type: ignore[attr-defined]
        limits["elapsed"] = partial(_share_of_time, timers[0], trainer)
    schedule = scheduler(optimizer, **limits)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _share_of_time(timer: Timer, trainer: Trainer) -> float:
    """What share of the time limit is over: the first process's clock for all, whose weights must stay equal."""
    left = timer.time_remaining()
    over = timer.time_elapsed()
    share = 0.0 if left is None else over / max(over + left, 1e-9)
    return float(trainer.strategy.broadcast(share))
