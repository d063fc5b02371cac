"""Windows of pictures on whole pixels: cut out, pasted in, moved."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.networks.layers import sample_in_border

FADE = 0.125
"""Share of a window at each edge over which paint fades to nothing."""


def window_corners(centres: Tensor, sides: Sequence[int], size: int) -> Tensor:
    """First row and column ``(B, n, 2)`` int64 of windows about centres ``(B, n, 2)`` (x, y in [0, 1]), in the picture."""
    extent = torch.tensor(sides, device=centres.device)
    corners = (centres.flip(-1).detach().float() * size - extent / 2).nan_to_num().round().long()
    return torch.minimum(corners.clamp(min=0), size - extent)


def cut_windows(pictures: Tensor, corners: Tensor, sides: Sequence[int]) -> Tensor:
    """Windows ``(B, n, C, h, w)``, height and width ``sides``, of pictures ``(B, C, S, S)`` from corners ``(B, n, 2)`` on."""
    return pictures.permute(0, 2, 3, 1)[_pixels(corners, sides)].permute(0, 1, 4, 2, 3)


def paste_windows(pictures: Tensor, windows: Tensor, corners: Tensor) -> Tensor:
    """Pictures ``(B, C, S, S)`` with windows ``(B, n, C, h, w)`` in place of what was there."""
    places = _pixels(corners, windows.shape[-2:])
    return pictures.permute(0, 2, 3, 1).index_put(places, windows.permute(0, 1, 3, 4, 2)).permute(0, 3, 1, 2)


def warp_windows(pictures: Tensor, flow: Tensor, corners: Tensor) -> Tensor:
    """Windows ``(B, n, C, h, w)`` of what `warp_by_centres` makes, bicubically, of pictures ``(B, C, S, S)``.

    Args:
        pictures: what is moved.
        flow: ``(B, n, 2, h, w)`` in half pictures, in the windows.
        corners: ``(B, n, 2)`` of the windows.
    """
    _, rows, columns = _pixels(corners, flow.shape[-2:])
    places = torch.stack(torch.broadcast_tensors(columns, rows), dim=2)  # (B, n, 2, h, w), x and y
    grid = ((2 * places + 1) / pictures.shape[-1] - 1 + flow.float()).permute(0, 1, 3, 4, 2).flatten(1, 2)
    found = sample_in_border(pictures.float(), grid, align_corners=False, mode="bicubic")
    return found.unflatten(2, (-1, flow.shape[-2])).transpose(1, 2).to(pictures.dtype)


def fading(sides: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Weight ``(h, w)`` of the pixels of a window of height and width ``sides``: 1 inside, falling to 0 at its edges."""
    ramps = []
    for side in sides:
        from_edge = (torch.arange(side, device=device) + 0.5) / side
        ramps.append((torch.minimum(from_edge, 1 - from_edge) / FADE).clamp(max=1))
    return ramps[0][:, None] * ramps[1]


def _pixels(corners: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the pictures ``(B, 1, 1, 1)``, their rows ``(B, n, h, 1)`` and columns ``(B, n, 1, w)``."""
    which = torch.arange(len(corners), device=corners.device)[:, None, None, None]
    rows = corners[..., :1, None] + torch.arange(sides[0], device=corners.device)[:, None]
    columns = corners[..., 1:, None] + torch.arange(sides[1], device=corners.device)
    return which, rows, columns
