"""Losses that compare pictures pixel by pixel."""

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from lightning_modules.losses.base import LossTerm, RenderedPairs


class RegionTerm(LossTerm):
    """A pixel loss with an extra weight ``region_gain`` inside mouth and eyes, where the batch knows their boxes."""

    def __init__(self, weight: float = 1.0, region_gain: float = 0.0) -> None:
        super().__init__(weight)
        self.region_gain = region_gain

    def weights(self, batch: FramePairBatch) -> Tensor:
        """Map ``(B, 1, S, S)`` of mean 1; see ``region_weights``."""
        return region_weights(batch.regions, batch.driving.shape[-1], self.region_gain)


class L1Loss(RegionTerm):
    """L1 of the frame over ``levels`` resolutions; one level and no gain are the paper's."""

    def __init__(self, weight: float = 1.0, region_gain: float = 0.0, levels: int = 1) -> None:
        super().__init__(weight, region_gain)
        self.levels = levels

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """See ``pyramid_l1``."""
        return pyramid_l1(pairs.decoded.frame, batch.driving, self.weights(batch), self.levels)


class WarpLoss(L1Loss):
    """L1 of the warped source pixels, which trains the flow directly (ours)."""

    needs = ("warped",)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """See ``pyramid_l1``."""
        assert pairs.decoded.warped is not None
        return pyramid_l1(pairs.decoded.warped, batch.driving, self.weights(batch), self.levels)


class EdgeLoss(RegionTerm):
    """L1 of the differences of neighbouring pixels (ours)."""

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """See ``gradient_l1``."""
        return gradient_l1(pairs.decoded.frame, batch.driving, self.weights(batch))


def region_weights(regions: Tensor, size: int, gain: float) -> Tensor:
    """Weight map ``(B, 1, size, size)`` of mean 1 that lifts mouth and eyes: else an L1 loss trades lips for background.

    Args:
        regions: ``(B, R, 4)`` boxes x0, y0, x1, y1 in [0, 1]; boxes of zero area count nothing.
        size: side of the map in pixels.
        gain: what is added to the weight 1 inside a box.
    """
    weights = 1 + gain * box_masks(regions, size).amax(dim=1, keepdim=True)
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def box_masks(regions: Tensor, size: int) -> Tensor:
    """Maps ``(B, R, size, size)`` that are 1 at pixels whose centre lies in a box of ``(B, R, 4)``, else 0."""
    centres = (torch.arange(size, device=regions.device) + 0.5) / size
    x0, y0, x1, y1 = regions[..., None].unbind(dim=2)  # each (B, R, 1)
    inside_x = ((centres >= x0) & (centres <= x1)).float()
    inside_y = ((centres >= y0) & (centres <= y1)).float()
    return inside_y[..., :, None] * inside_x[..., None, :]


def pyramid_l1(prediction: Tensor, target: Tensor, weights: Tensor, levels: int = 3) -> Tensor:
    """L1 of pictures ``(B, 3, S, S)`` under weights ``(B, 1, S, S)`` over ``levels`` resolutions, each half the last.

    At the lower ones coarse errors get a gradient over long ways.
    """
    total = prediction.new_zeros(())
    for level in range(levels):
        if level:
            prediction, target, weights = (F.avg_pool2d(x, 2) for x in (prediction, target, weights))
        total = total + ((prediction - target).abs() * weights).mean()
    return total / levels


def gradient_l1(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted L1 between the horizontal and vertical differences: rewards edges, which plain L1 blurs."""
    error = prediction - target
    horizontal = (error[..., 1:] - error[..., :-1]).abs() * weights[..., 1:]
    vertical = (error[..., 1:, :] - error[..., :-1, :]).abs() * weights[..., 1:, :]
    return horizontal.mean() + vertical.mean()
