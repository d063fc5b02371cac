"""Where the pixels of a frame come from, by both motions and the portrait's coarse features, and which the portrait can show.

Ours.
"""

import itertools

import torch
from torch import Tensor, nn

from lightning_modules.networks.layers import ModulatedNormConv, resized

GRID = 16
"""Side of the grid of flow and features that motion alone says, in a model of any size."""
GRID_FEATURES = 8
OPEN = 3.0
"""Logit of what can be seen at the start: what can be moved is moved, not painted."""


class FlowNetwork(nn.Module):
    """Flow and what it can show, at a quarter of the network's size, from both motions and the source's coarse features."""

    def __init__(self, motion_dim: int, coarse: int, style_dim: int) -> None:
        super().__init__()
        outputs = (2 + GRID_FEATURES) * GRID**2
        self.grid = nn.Sequential(nn.Linear(2 * motion_dim, 128), nn.SiLU(), nn.Linear(128, outputs))
        widths = (coarse + GRID_FEATURES, 96, 64, 32)
        self.blocks = nn.ModuleList(
            ModulatedNormConv(one, two, style_dim) for one, two in itertools.pairwise(widths)
        )
        self.out = nn.Conv2d(widths[-1], 3, 3, padding=1)
        for parameter in (*self.grid[-1].parameters(), *self.out.parameters()):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, 0.0, OPEN]))  # type: ignore[union-attr]

    def forward(
        self, motions: Tensor, coarse: Tensor, style: Tensor, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flow ``(B, 2, side, side)`` in half pictures, logits ``(B, 1, side, side)`` of what it shows, their features.

        The flow of the grid finds the head's motion long before the convolutions do; they refine it.
        """
        grid = self.grid(motions).view(-1, 2 + GRID_FEATURES, GRID, GRID)
        flow, features = grid.split((2, GRID_FEATURES), dim=1)
        x = torch.cat([resized(coarse, GRID), features.to(coarse.dtype)], dim=1)
        for block, at in zip(self.blocks, (GRID, max(GRID, side // 2), side), strict=True):
            x = block(resized(x, at), style)
        found = self.out(x).float()
        return resized(flow.float(), side) + found[:, :2], found[:, 2:], x
