"""What is computed once of a portrait: its features, where its person stands, and what is behind. Ours."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.layers import NORM_GROUPS, RunningNorm, resized

HOLE = 7
"""Part of the side that a hole of the person's mask is at least wide."""
LOOKED_AT = 64
"""Side at which holes of a larger mask are looked for."""
LEAST_FILL, ENOUGH = 4, 0.5
"""Side of the coarsest grid that a background is guessed by; share of a square to be known for its colour to count fully."""
NOBODY = -5.0
"""Logit of the portrait's person at the start: nothing is hidden by it."""


class SourcePyramid(nn.Module):
    """Feature maps of a portrait at 1/2, 1/4 and 1/16 of the network's size, its latent, its person; computed once."""

    def __init__(self, latent_dim: int, fine: int, middle: int, coarse: int) -> None:
        super().__init__()
        widths = (3, fine, middle, coarse, coarse)
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(one, two, 4, 2, 1),
                nn.GroupNorm(NORM_GROUPS, two),
                nn.SiLU(),
                nn.Conv2d(two, two, 3, padding=1),
            )
            for one, two in itertools.pairwise(widths)
        )
        self.head = nn.Linear(coarse * 16, latent_dim)
        self.norm = RunningNorm(latent_dim)
        last = nn.Conv2d(32, 1, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, NOBODY)  # type: ignore[arg-type]
        self.person = nn.Sequential(nn.Conv2d(middle + coarse, 32, 3, padding=1), nn.SiLU(), last)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Latent ``(B, L)``, maps, fine to coarse, and share of the person ``(B, 1, S / 4, S / 4)`` of ``(B, 3, S, S)``."""
        x, maps = image, []
        for step in self.steps:
            x = step(x)
            maps.append(x)
        latent = self.norm(self.head(F.adaptive_avg_pool2d(F.silu(x), 4).flatten(1)).float())
        fine, middle, _, coarse = maps
        seen = torch.cat([middle, resized(coarse, middle.shape[-1])], dim=1)
        person = without_holes(torch.sigmoid(self.person(F.silu(seen)).float()))
        return latent, [fine, middle, coarse], person


def filled(pictures: Tensor, known: Tensor) -> Tensor:
    """Pictures ``(B, C, S, S)`` where ``known`` ``(B, 1, S, S)`` is 1; where it is 0 the colours of what is known nearby.

    Each pixel takes what the smallest square about it knows (the pull-push of Gortler et al., The Lumigraph, 1996).
    """
    pictures, known = pictures.float(), known.float()
    sums, weights = [pictures * known], [known]
    while weights[-1].shape[-1] % 2 == 0 and weights[-1].shape[-1] > LEAST_FILL:
        sums.append(F.avg_pool2d(sums[-1], 2))
        weights.append(F.avg_pool2d(weights[-1], 2))
    total = weights[-1].mean(dim=(2, 3), keepdim=True).clamp_min(1e-4)
    found = (sums[-1].mean(dim=(2, 3), keepdim=True) / total).expand_as(sums[-1])
    for total, weight in zip(reversed(sums), reversed(weights), strict=True):
        enough = (weight / ENOUGH).clamp(max=1)
        found = resized(found, total.shape[-1])
        found = found + enough * (total / weight.clamp_min(1e-4) - found)
    return found


def without_holes(mask: Tensor) -> Tensor:
    """A mask ``(B, 1, S, S)`` whose holes and bays are filled, where they are narrower than a ``HOLE``-th of the side.

    The mouth or an eye of a face unlike all drawn ones is taken for background otherwise, and stays behind.
    """
    small = F.avg_pool2d(mask, max(mask.shape[-1] // LOOKED_AT, 1))
    reach = small.shape[-1] // HOLE // 2
    grown = F.max_pool2d(small, 2 * reach + 1, 1, reach)
    closed = -F.max_pool2d(-grown, 2 * reach + 1, 1, reach)
    inside = 2 * resized(closed, mask.shape[-1]) - 1  # what enlarging blurs stays within the outline
    return torch.maximum(mask, inside.clamp(min=0))
