"""Paints the inside of the mouth onto a decoded frame: what a shut mouth doesn't show, no flow can bring.

Ours. Learning from some minutes of video, a flow decoder shuts open mouths but never opens shut ones. Here the mouth is
looked at in a window that moves along with it, so that teeth and dark are at about the same place in every frame.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.face_windows import USUAL
from lightning_modules.networks.layers import (
    NORM_GROUPS,
    ModulatedNormConv,
    full_precision,
    sample_in_border,
    upsample,
)
from lightning_modules.networks.windows import fading

WINDOW_SHARE = 0.375
"""Side of the window in picture widths."""
PLATE = 24
"""Side of the grid of features that motion alone says."""
PLATE_FEATURES = 8
FOLD = 2
"""Side of the squares of pixels that are folded into channels: the convolutions work at half the resolution."""
FLOW_GAIN = 4.0
"""Brings flow to about the range of colours."""
SEEN = 3 + 3 + 2
"""Channels that are looked at: the decoded frame, the warped source, the flow."""


class MouthPainter(nn.Module):
    """Adds paint to a frame inside a window around the mouth; starts as nothing.

    Where the window goes is read off the motion by a linear layer that only boxes of mouths teach (``centre_l1``): without
    such a loss it stays where a framed face usually has its mouth.

    Args:
        motion_dim: number of motion coefficients M.
        width: channels of the convolutions, a multiple of 8.
        style_dim: size of the vector that motion modulates them with.
    """

    def __init__(self, motion_dim: int, width: int = 64, style_dim: int = 64) -> None:
        super().__init__()
        if width <= 0 or width % NORM_GROUPS:
            raise ValueError(f"a mouth painter's width is a positive multiple of {NORM_GROUPS}, got {width}")
        self.place = nn.Linear(motion_dim, 2)
        wide, narrow = nn.Linear(2 * motion_dim, 2 * style_dim), nn.Linear(2 * style_dim, style_dim)
        self.style = nn.Sequential(wide, nn.SiLU(), narrow, nn.SiLU())
        self.plate = nn.Linear(style_dim, PLATE_FEATURES * PLATE**2)
        self.fine = ModulatedNormConv(SEEN * FOLD**2 + PLATE_FEATURES, width, style_dim)
        self.down = ModulatedNormConv(width, width, style_dim, stride=2)
        self.coarse = nn.ModuleList(ModulatedNormConv(width, width, style_dim) for _ in range(2))
        self.up = ModulatedNormConv(2 * width, width, style_dim)
        self.paint = nn.Conv2d(width, 3 * FOLD**2, 1)
        nn.init.zeros_(self.place.weight)
        with torch.no_grad():
            self.place.bias.copy_(torch.tensor(USUAL[0][:2]))
        for parameter in self.paint.parameters():
            nn.init.zeros_(parameter)

    def centre(self, motion: Tensor) -> Tensor:
        """Where the mouth is in the picture: x, y in [0, 1], ``(B, 2)`` float32, of motion coefficients ``(B, M)``."""
        with full_precision(motion.device):
            return self.place(motion.float())

    def forward(self, rgb: Tensor, warped: Tensor, flow: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """Paint a frame: ``(B, 3, S, S)`` float32, outside the window ``rgb``.

        Args:
            rgb: ``(B, 3, S, S)`` decoded frame, about [-1, 1].
            warped: ``(B, 3, S, S)`` source pixels in [-1, 1] moved by the flow.
            flow: ``(B, 2, S, S)`` backward flow in half picture widths.
            source: ``(B, M)`` motion coefficients of the source in [-1, 1].
            driving: ``(B, M)`` motion coefficients of the frame in [-1, 1].
        """
        size = rgb.shape[-1]
        side = window_side(size)
        # What motion alone says: where the mouth is, a style (B, style_dim), features over the window.
        centre = self.centre(driving).detach()  # found by its own loss, not by what can be painted there
        style = self.style(torch.cat([source, driving], dim=1).float())
        plate = self.plate(style).view(-1, PLATE_FEATURES, PLATE, PLATE)
        plate = F.interpolate(plate, (side // FOLD, side // FOLD), mode="bilinear", align_corners=False)
        # What is seen in the window, with squares of pixels folded into channels.
        seen = torch.cat([rgb, warped, FLOW_GAIN * flow], dim=1).float()  # (B, 8, S, S)
        window = F.pixel_unshuffle(cut_window(seen, centre, side), FOLD)  # (B, 32, side / 2, side / 2)
        # A U-Net of one level.
        fine = self.fine(torch.cat([window, plate], dim=1), style)  # (B, W, side / 2, side / 2)
        hidden = self.down(fine, style)  # (B, W, side / 4, side / 4)
        for layer in self.coarse:
            hidden = hidden + layer(hidden, style)
        hidden = self.up(torch.cat([fine, upsample(hidden)], dim=1), style)  # (B, W, side / 2, side / 2)
        # Three colours for each pixel, fading out at the window's edges, back in their place.
        paint = F.pixel_shuffle(self.paint(hidden), FOLD)
        paint = paint.float() * fading((side, side), paint.device)  # (B, 3, side, side)
        return rgb + paste_window(paint, centre, size)


def window_side(size: int) -> int:
    """Pixels of the window's side in a picture of ``size``: ``WINDOW_SHARE`` of it, a multiple of four from 8."""
    return max(round(WINDOW_SHARE * size / 4), 2) * 4


def cut_window(picture: Tensor, centre: Tensor, side: int) -> Tensor:
    """Cut ``(B, C, side, side)`` around ``centre (B, 2)`` in [0, 1] out of ``(B, C, S, S)``; border pixels repeat outside."""
    share = side / picture.shape[-1]
    return _sample(picture, 2 * centre - 1, share, side, "border")


def paste_window(window: Tensor, centre: Tensor, size: int) -> Tensor:
    """Put ``(B, C, s, s)`` around ``centre (B, 2)`` in [0, 1] into an empty picture ``(B, C, size, size)``."""
    share = window.shape[-1] / size
    return _sample(window, (1 - 2 * centre) / share, 1 / share, size, "zeros")


def _sample(picture: Tensor, shift: Tensor, scale: float, side: int, outside: str) -> Tensor:
    """Sample a square of ``scale`` picture widths about ``shift (B, 2)``, half widths from the picture's middle.

    The grid is spelt out: ``affine_grid`` multiplies matrices, which autocast does in bfloat16, a pixel too coarse.
    """
    centres = (2 * torch.arange(side, device=picture.device) + 1) / side - 1
    x, y = (scale * centres + shift[:, axis : axis + 1] for axis in (0, 1))  # each (B, side)
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
    if outside == "border":
        return sample_in_border(picture, grid, align_corners=False)
    return F.grid_sample(picture, grid, padding_mode=outside, align_corners=False)
