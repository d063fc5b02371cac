"""Losses that compare pictures pixel by pixel."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from lightning_modules.losses.terms import LossTerm, RenderedPairs, need


class RegionTerm(LossTerm):
    """A pixel loss that may weigh mouth and eyes more than the rest, where the batch knows their boxes.

    Args:
        weight: factor in the sum.
        region_gain: extra weight inside mouth and eyes.
    """

    def __init__(self, weight: float = 1.0, region_gain: float = 0.0) -> None:
        super().__init__(weight)
        self.region_gain = region_gain

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """The term without its weight, a scalar."""
        return self.compare(
            pairs, batch.driving, region_weights(batch.regions, batch.driving.shape[-1], self.region_gain)
        )

    @abstractmethod
    def compare(self, pairs: RenderedPairs, target: Tensor, weights: Tensor) -> Tensor:
        """Distance of what was rendered from ``target (B, 3, S, S)`` under ``weights (B, 1, S, S)`` of mean 1."""


class L1Loss(RegionTerm):
    """L1 of the frame over ``levels`` resolutions; one level and no gain are the paper's."""

    def __init__(self, weight: float = 1.0, region_gain: float = 0.0, levels: int = 1) -> None:
        super().__init__(weight, region_gain)
        self.levels = levels

    def compare(self, pairs: RenderedPairs, target: Tensor, weights: Tensor) -> Tensor:
        """See ``pyramid_l1``."""
        return pyramid_l1(pairs.decoded.frame, target, weights, self.levels)


class WarpLoss(L1Loss):
    """L1 of the warped source pixels, which trains the flow directly (ours)."""

    def compare(self, pairs: RenderedPairs, target: Tensor, weights: Tensor) -> Tensor:
        """See ``pyramid_l1``."""
        return pyramid_l1(need(pairs.decoded.warped, "warped source"), target, weights, self.levels)


class EdgeLoss(RegionTerm):
    """L1 of the differences of neighbouring pixels (ours)."""

    def compare(self, pairs: RenderedPairs, target: Tensor, weights: Tensor) -> Tensor:
        """See ``gradient_l1``."""
        return gradient_l1(pairs.decoded.frame, target, weights)


def region_weights(regions: Tensor, size: int, gain: float) -> Tensor:
    """Weight map that lifts mouth and eyes, so that an L1 loss doesn't trade lips for background.

    Args:
        regions: ``(B, R, 4)`` boxes x0, y0, x1, y1 in [0, 1]; boxes of zero area count nothing.
        size: side of the map in pixels.
        gain: what is added to the weight 1 inside a box.

    Returns:
        ``(B, 1, size, size)`` weights of mean 1 per picture.
    """
    boxes = box_masks(regions, size)
    weights = 1 + gain * boxes.amax(dim=1, keepdim=True)
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def box_masks(regions: Tensor, size: int) -> Tensor:
    """Maps ``(B, R, size, size)`` that are 1 at pixels whose centre lies in a box of ``(B, R, 4)``, else 0."""
    centres = (torch.arange(size, device=regions.device) + 0.5) / size
    x0, y0, x1, y1 = regions[..., None].unbind(dim=2)  # each (B, R, 1)
    inside_x = ((centres >= x0) & (centres <= x1)).float()
    inside_y = ((centres >= y0) & (centres <= y1)).float()
    return inside_y[..., :, None] * inside_x[..., None, :]


def weighted_l1(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error of ``(B, 3, S, S)`` under weights ``(B, 1, S, S)``."""
    return ((prediction - target).abs() * weights).mean()


def pyramid_l1(prediction: Tensor, target: Tensor, weights: Tensor, levels: int = 3) -> Tensor:
    """Weighted L1 over ``levels`` resolutions, each half the last: coarse errors get a gradient over long ways.

    Args:
        prediction: ``(B, 3, S, S)``.
        target: ``(B, 3, S, S)``.
        weights: ``(B, 1, S, S)``.
        levels: number of resolutions, 1 = plain weighted L1.
    """
    total = prediction.new_zeros(())
    for level in range(levels):
        if level:
            prediction, target, weights = (F.avg_pool2d(x, 2) for x in (prediction, target, weights))
        total = total + weighted_l1(prediction, target, weights)
    return total / levels


def gradient_l1(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted L1 between the horizontal and vertical differences: rewards edges, which plain L1 blurs."""
    error = prediction - target
    horizontal = (error[..., 1:] - error[..., :-1]).abs() * weights[..., 1:]
    vertical = (error[..., 1:, :] - error[..., :-1, :]).abs() * weights[..., 1:, :]
    return horizontal.mean() + vertical.mean()
