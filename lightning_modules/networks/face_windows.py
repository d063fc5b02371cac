"""Windows of a face for a discriminator that looks closely: mouth, both eyes, a half of the face."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("mouth", "left eye", "right eye", "left half", "right half")
WIDER = (1.5, 1.8, 1.8)
"""Sides of the windows of mouth and eyes, as multiples of the larger sides of their boxes."""
HALF = 1.3
"""Side of the window of a half face, as a multiple of the distance from eye to mouth."""
USUAL = ((0.5, 0.7, 0.2), (0.62, 0.42, 0.12), (0.38, 0.42, 0.12))
"""Centre x, y and larger side of mouth and eyes where their boxes are not known."""


class FaceWindows(nn.Module):
    """Cuts square windows of one size, each with planes that say of what it is.

    Args:
        side: of the windows in pixels.
        kinds: some of ``KINDS``, in their order.
        grey: brightness alone is shown, in three planes alike: no tint is told real then, colours are left to other losses.
    """

    channels = 3 + len(KINDS)

    def __init__(self, side: int = 64, kinds: Sequence[str] = KINDS, grey: bool = False) -> None:
        super().__init__()
        if not kinds or list(kinds) != [name for name in KINDS if name in kinds]:
            raise ValueError(f"kinds must be some of {KINDS}, in that order, got {list(kinds)}")
        self.grey = grey
        self.side, self.kinds = side, [KINDS.index(name) for name in kinds]

    def forward(self, frames: Tensor, regions: Tensor) -> Tensor:
        """Windows ``(K B, 3 + 5, side, side)`` of K kinds, those of the first frame first, bilinearly sampled.

        Args:
            frames: ``(B, 3, S, S)``.
            regions: ``(B, 3, 4)`` boxes x0, y0, x1, y1 in [0, 1] of mouth, left and right eye; zeros where unknown.
        """
        known = (regions[..., 2:] > regions[..., :2]).all(dim=-1, keepdim=True)  # (B, 3, 1)
        low, high = regions.float().split(2, dim=-1)
        found = torch.cat([(low + high) / 2, (high - low).amax(dim=-1, keepdim=True)], dim=-1)  # (B, 3, 3)
        found = torch.where(known, found, found.new_tensor(USUAL))
        centres, sides = found[..., :2], found[..., 2] * found.new_tensor(WIDER)
        # A half of the face lies under its eye, a quarter of the way to the mouth.
        mouth, eyes = centres[:, :1], centres[:, 1:]
        reach = (eyes - mouth).norm(dim=-1)  # (B, 2)
        centres = torch.cat([centres, (mouth + 3 * eyes) / 4], dim=1)[:, self.kinds]
        sides = torch.cat([sides, HALF * reach], dim=1)[:, self.kinds]  # (B, K)
        steps = (torch.arange(self.side, device=frames.device) + 0.5) / self.side - 0.5
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)  # (side, side, 2)
        places = centres[:, :, None, None] + sides[:, :, None, None, None] * offsets
        grid = (2 * places - 1).flatten(1, 2).to(frames)  # (B, K side, side, 2)
        cut = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
        if self.grey:
            cut = cut.mean(dim=1, keepdim=True).expand_as(cut)
        cut = cut.unflatten(2, (len(self.kinds), self.side)).transpose(1, 2)  # (B, K, 3, side, side)
        names = torch.eye(len(KINDS), device=frames.device, dtype=cut.dtype)[None, self.kinds, :, None, None]
        names = names.expand(len(frames), -1, -1, self.side, self.side)
        return torch.cat([cut, names], dim=2).flatten(0, 1)
