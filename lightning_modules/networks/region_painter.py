"""Moves lips and lids by a finer flow, and paints what a shut mouth or a shut lid hides and no flow can bring.

Ours. Mouth and eyes are looked at in windows that go along with them on whole pixels, so that teeth and iris are at about
the same place in every frame and nothing is resampled.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.layers import ModulatedNormConv, upsample

FOLD = 2
"""Side of the squares of pixels that are folded into channels: the convolutions work at half the resolution."""
FADE = 0.125
"""Share of the window at each edge over which the paint fades to nothing."""
PLATE, PLATE_FEATURES = 12, 8
"""Side and channels of the features that motion alone says, stretched over the window."""
SHUT = -3.0
"""Logit of the paint's cover at the start: hardly anything is painted."""
SEEN = 3 + 3 + 3 + 1
"""Channels that are looked at: windows of the portrait, of the frame, of the portrait's moved pixels, of what is hidden."""
SWAY = 64
"""Width of the layer behind what motion alone says of flow and cover."""


class RegionPainter(nn.Module):
    """Flow, paint and its cover for windows of one kind: a U-Net of one level, modulated by motion.

    Args:
        style_dim: size of the vector that says motion, and which of several alike windows this is.
        width: channels of the convolutions, a multiple of 8.
        motion_dim: size of the vector that says motion and window alone: what flow and cover follow on any face.
    """

    def __init__(self, style_dim: int, width: int, motion_dim: int) -> None:
        super().__init__()
        self.sway = nn.Sequential(nn.Linear(motion_dim, SWAY), nn.SiLU(), nn.Linear(SWAY, 3 * PLATE**2))
        self.plate = nn.Linear(style_dim, PLATE_FEATURES * PLATE**2)
        self.fine = ModulatedNormConv(SEEN * FOLD**2 + PLATE_FEATURES, width, style_dim)
        self.down = ModulatedNormConv(width, width, style_dim, stride=2)
        self.coarse = nn.ModuleList(ModulatedNormConv(width, width, style_dim) for _ in range(2))
        self.up = ModulatedNormConv(2 * width, width, style_dim)
        self.paint = nn.Conv2d(width, 6 * FOLD**2, 1)
        for parameter in (*self.sway[-1].parameters(), self.paint.weight):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            start = torch.tensor([0.0, 0.0, 0.0, SHUT, 0.0, 0.0])
            self.paint.bias.copy_(start.repeat_interleave(FOLD**2))  # type: ignore[union-attr]

    def forward(self, window: Tensor, style: Tensor, motions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Change of colour ``(N, 3, h, w)`` in (-1, 1), its cover ``(N, 1, h, w)`` in [0, 1] and flow ``(N, 2, h, w)``.

        Cover and flow, in half pictures, fall to 0 at the edges.

        Args:
            window: ``(N, 10, h, w)`` see ``SEEN``, in [-1, 1]; sides are multiples of four.
            style: ``(N, D)``.
            motions: ``(N, M)``.
        """
        sides = window.shape[2:]
        sway = self.sway(motions.float()).view(-1, 3, PLATE, PLATE)
        sway, opening = F.interpolate(sway, sides, mode="bilinear", align_corners=False).split((2, 1), dim=1)
        window = F.pixel_unshuffle(window, FOLD)  # (N, 40, h / 2, w / 2)
        plate = self.plate(style).view(-1, PLATE_FEATURES, PLATE, PLATE)
        plate = F.interpolate(plate, window.shape[2:], mode="bilinear", align_corners=False)
        fine = self.fine(torch.cat([window, plate.to(window.dtype)], dim=1), style)  # (N, W, h / 2, w / 2)
        hidden = self.down(fine, style)  # (N, W, h / 4, w / 4)
        for layer in self.coarse:
            hidden = hidden + layer(hidden, style)
        hidden = self.up(torch.cat([fine, upsample(hidden)], dim=1), style)
        paint, cover, flow = F.pixel_shuffle(self.paint(hidden), FOLD).float().split((3, 1, 2), dim=1)
        cover = torch.sigmoid(cover) * torch.sigmoid(opening)
        fading = _fading(paint)
        return torch.tanh(paint), cover * fading, (flow + sway) * fading


class Patch(NamedTuple):
    """Paint for n windows of one kind in each picture.

    Attributes:
        corners: ``(B, n, 2)`` int64 first row and column.
        paint: ``(B, n, 3, h, w)`` colours in [-1, 1].
        cover: ``(B, n, 1, h, w)`` in [0, 1].
        flow: ``(B, n, 2, h, w)`` beside that of the whole frame, in half pictures.
    """

    corners: Tensor
    paint: Tensor
    cover: Tensor
    flow: Tensor

    def enlarged(self, factor: int) -> "Patch":
        """The same for pictures so many times as large."""
        corners, *pictures = self
        sides = [factor * side for side in self.paint.shape[-2:]]
        enlarged = (
            F.interpolate(one.flatten(0, 1), sides, mode="bilinear", align_corners=False).unflatten(
                0, one.shape[:2]
            )
            for one in pictures
        )
        return Patch(factor * corners, *enlarged)

    def covering(self, covered: Tensor) -> Tensor:
        """The covered share ``(B, 1, S, S)``, 0..1, after this paint is added."""
        return self._pasted(covered, torch.ones_like(self.cover), self.cover)

    def on(self, frame: Tensor) -> Tensor:
        """A frame ``(B, 3, S, S)`` with the paint on it."""
        return self._pasted(frame, self.paint, self.cover)

    def moving(self, flow: Tensor) -> Tensor:
        """A flow ``(B, 2, S, S)`` with that of the windows added."""
        for corners, added in zip(self.corners.split(1, dim=1), self.flow.split(1, dim=1), strict=True):
            flow = _paste_windows(flow, cut_windows(flow, corners, added.shape[-2:]) + added, corners)
        return flow

    def _pasted(self, below: Tensor, paint: Tensor, cover: Tensor) -> Tensor:
        """One window after the other, as two eyes may overlap."""
        for at, colours, share in zip(
            *(one.split(1, dim=1) for one in (self.corners, paint, cover)), strict=True
        ):
            there = cut_windows(below, at, colours.shape[-2:])
            below = _paste_windows(below, there + share * (colours - there), at)
        return below


def window_corners(centres: Tensor, sides: Sequence[int], size: int) -> Tensor:
    """First row and column ``(B, n, 2)`` int64 of windows about centres ``(B, n, 2)`` (x, y in [0, 1]), in the picture."""
    extent = torch.tensor(sides, device=centres.device)
    corners = (centres.flip(-1).detach().float() * size - extent / 2).nan_to_num().round().long()
    return torch.minimum(corners.clamp(min=0), size - extent)


def cut_windows(pictures: Tensor, corners: Tensor, sides: Sequence[int]) -> Tensor:
    """Windows ``(B, n, C, h, w)``, height and width ``sides``, of pictures ``(B, C, S, S)`` from corners ``(B, n, 2)`` on."""
    return pictures.permute(0, 2, 3, 1)[_pixels(corners, sides)].permute(0, 1, 4, 2, 3)


def _paste_windows(pictures: Tensor, windows: Tensor, corners: Tensor) -> Tensor:
    """Pictures ``(B, C, S, S)`` with windows ``(B, n, C, h, w)`` in place of what was there."""
    places = _pixels(corners, windows.shape[-2:])
    return pictures.permute(0, 2, 3, 1).index_put(places, windows.permute(0, 1, 3, 4, 2)).permute(0, 3, 1, 2)


def _pixels(corners: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the pictures ``(B, 1, 1, 1)``, their rows ``(B, n, h, 1)`` and columns ``(B, n, 1, w)``."""
    which = torch.arange(len(corners), device=corners.device)[:, None, None, None]
    rows = corners[..., :1, None] + torch.arange(sides[0], device=corners.device)[:, None]
    columns = corners[..., 1:, None] + torch.arange(sides[1], device=corners.device)
    return which, rows, columns


def _fading(paint: Tensor) -> Tensor:
    """Weight ``(h, w)`` of the pixels of a window: 1 inside, falling to 0 at the edges."""
    ramps = []
    for side in paint.shape[-2:]:
        from_edge = (torch.arange(side, device=paint.device) + 0.5) / side
        ramps.append((torch.minimum(from_edge, 1 - from_edge) / FADE).clamp(max=1))
    return ramps[0][:, None] * ramps[1]
