"""Mean and standard deviation of motion windows, in the coordinates of the motion basis."""

import torch
from torch import Tensor


def window_statistics(motion: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation, each ``(B, M)``, over the hint and the frames of a window.

    Args:
        motion: ``(B, 1 + T, M)`` hint frame, then T frames.
        valid: ``(B, T)`` bool, False on frames past the end of a clip; all count where None. The hint always counts; the
            std of it alone is 0.
    """
    if valid is None:
        return motion.mean(dim=1), motion.std(dim=1)
    counts = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
    weight = counts.unsqueeze(-1).to(motion)  # (B, 1 + T, 1)
    count = weight.sum(dim=1)
    mean = (weight * motion).sum(dim=1) / count
    squares = (weight * (motion - mean.unsqueeze(1)).square()).sum(dim=1)
    return mean, torch.sqrt(squares / (count - 1).clamp(min=1))
