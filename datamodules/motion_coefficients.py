"""Motion coefficients of renderers, which are in (-1, 1), as bent from values of any size, in which motion adds up."""

import torch
from torch import Tensor

BEND = 0.95
"""Coefficients times this are bent: those of renderers are in (-1, 1), and near the ends a little means much."""
EDGE = 1 - 1e-6
"""Largest bent coefficient: what is beyond counts as that. No frame's is over ``BEND``; coordinates of scaled motion come
back as they were, as far as float32 can tell."""


def straightened(motion: Tensor, bend: Tensor | float = BEND) -> Tensor:
    """Coefficients ``(..., M)`` before they were bent."""
    return torch.atanh((bend * motion).clamp(-EDGE, EDGE))


def bent(values: Tensor, bend: Tensor | float = BEND) -> Tensor:
    """Values ``(..., M)`` of any size as coefficients within 1 / ``bend``; inverse of ``straightened``."""
    return torch.tanh(values) / bend
