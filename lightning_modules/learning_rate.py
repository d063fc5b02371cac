"""Learning-rate schedule shared by the motion stages."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

FINAL_FACTOR = 0.02


def _factor(step: int, warmup_steps: int, total_steps: float) -> float:
    rise = min(1.0, (step + 1) / (warmup_steps + 1))
    if math.isinf(total_steps):
        return rise
    progress = min(1.0, max(0.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps)))
    return rise * (FINAL_FACTOR + (1 - FINAL_FACTOR) * 0.5 * (1 + math.cos(math.pi * progress)))


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: float) -> LambdaLR:
    """Linear rise, then half a cosine down to 2 % of the learning rate (arXiv 1608.03983, equation 5).

    Args:
        optimizer: Optimizer to steer.
        warmup_steps: Steps of the rise.
        total_steps: Steps of the whole training; infinite keeps the learning rate after the rise.

    Returns:
        Scheduler to step once per optimizer step.
    """
    return LambdaLR(optimizer, partial(_factor, warmup_steps=warmup_steps, total_steps=total_steps))
