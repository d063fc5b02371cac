"""A small warp renderer, and pictures for it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.registry import build_network
from lightning_modules.networks.warp_renderer import WarpRenderer

SMALL = {
    "size": 64, "width": 8, "blocks": 1, "latent_dim": 16, "motion_dim": 6, "face_views": 8, "style_dim": 8, "painters": 8,
}  # fmt: skip


def small(**options) -> WarpRenderer:
    torch.manual_seed(0)
    return build_network("warp_renderer", **(SMALL | options))


def pictures(count: int = 4, side: int = 64) -> Tensor:
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(noise, (side, side), mode="bicubic") * 2 - 1).clamp(-1, 1)


def lively(model: WarpRenderer) -> WarpRenderer:
    """One whose layers that start as nothing do something."""
    torch.manual_seed(2)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return model
