"""Pictures in other colours, light and texture: who reads motion off them learns to go by shapes, and carries over. Ours."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.networks.processes import normal_like, uniform_like

COLOUR, GAMMA, LIGHT, TEXTURE = 0.25, 0.35, 0.35, 0.12
"""Standard deviations at full strength: of the mixing of channels; of the logarithms of gamma, of light, of spots."""
SPOTS = (1, 2, 4, 8)
"""Sides of the spots, in pixels."""
LIGHTS = 4
"""Side of the grid of lights over the picture."""


def disguised(pictures: Tensor, strength: float) -> Tensor:
    """``(B, 3, S, S)`` in [-1, 1], each in colours, light and texture of its own; ``strength`` 0 changes nothing, 1 a lot.

    Shapes stay where they are. Random numbers are torch's, each item's own.
    """
    side = pictures.shape[-1]
    x = (pictures.clamp(-1, 1) + 1) / 2
    mixing = torch.eye(3, device=x.device) + strength * COLOUR * normal_like(x, 3, 3)
    x = torch.einsum("bij,bjhw->bihw", mixing.to(x.dtype), x - 0.5) + 0.5
    x = x.clamp(1e-3, 1) ** (strength * GAMMA * normal_like(x, 1, 1, 1)).exp()
    logs = LIGHT * _field(LIGHTS, side, x)
    amount = uniform_like(x, len(SPOTS), 1, 1, 1)
    for k, spot in enumerate(SPOTS):
        logs = logs + TEXTURE * amount[:, k] * _field(side // spot, side, x)
    return (x * (strength * logs).exp()).clamp(0, 1) * 2 - 1


def _field(cells: int, side: int, like: Tensor) -> Tensor:
    """Random numbers ``(B, 1, side, side)`` that change over a ``cells``-th of the side."""
    drawn = normal_like(like, 1, cells, cells)
    return (
        drawn if cells == side else F.interpolate(drawn, (side, side), mode="bilinear", align_corners=False)
    )
