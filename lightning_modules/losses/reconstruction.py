"""Pixel losses of the motion autoencoder."""

import torch
from torch import Tensor
from torch.nn import functional as F


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


def inside_weights(boxes: Tensor, size: int) -> Tensor:
    """Weight map of boxes alone: 0 outside, 1 on average over the picture; all 0 where no pixel's centre is in it.

    Args:
        boxes: ``(B, 4)`` boxes x0, y0, x1, y1 in [0, 1].
        size: side of the map in pixels.

    Returns:
        ``(B, 1, size, size)``.
    """
    weights = box_masks(boxes[:, None], size)
    return weights / weights.mean(dim=(2, 3), keepdim=True).clamp(min=1 / size**2)


def box_masks(regions: Tensor, size: int) -> Tensor:
    """Maps ``(B, R, size, size)`` that are 1 at pixels whose centre lies in a box of ``(B, R, 4)``, else 0."""
    centres = (torch.arange(size, device=regions.device) + 0.5) / size
    x0, y0, x1, y1 = regions[..., None].unbind(dim=2)  # each (B, R, 1)
    inside_x = ((centres >= x0) & (centres <= x1)).float()
    inside_y = ((centres >= y0) & (centres <= y1)).float()
    return inside_y[..., :, None] * inside_x[..., None, :]


def centre_l1(found: Tensor, boxes: Tensor) -> Tensor:
    """Mean absolute distance of points ``(B, 2)`` from the centres of boxes ``(B, 4)``, both in [0, 1]; 0 without boxes.

    Boxes of zero area count nothing.
    """
    known = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    low, high = torch.where(known[:, None], boxes, 0.0).split(2, dim=1)
    error = (found - (low + high) / 2).abs().mean(dim=1)
    return torch.where(known, error, 0.0).sum() / known.sum().clamp(min=1)


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


def landmark_flow_l1(flow: Tensor, landmarks: Tensor) -> Tensor:
    """Error of the backward flow at known points: where the driving frame has a landmark, it must point to the source's.

    Points pull the flow from any distance, where pixels only do so within an edge's width. Ours; the paper's stage 1 sees
    no landmarks.

    Args:
        flow: ``(B, 2, S, S)`` backward flow in half picture widths, corner-aligned.
        landmarks: ``(B, 2, L, 2)`` of source and driving frame in [0, 1] of the picture's edges; L >= 1. Points that are
            not finite in one of the two count nothing.

    Returns:
        Mean absolute error over the known points in half picture widths, a scalar; 0 where none is known.
    """
    known = landmarks.isfinite().all(dim=-1).all(dim=1)  # (B, L)
    landmarks = torch.where(known[:, None, :, None], landmarks, 0.5)
    size = flow.shape[-1]
    grid = (2 * (landmarks * size - 0.5) / (size - 1) - 1).to(
        flow
    )  # pixel edges -> corner-aligned pixel centres
    source, driving = grid.unbind(1)  # each (B, L, 2)
    found = F.grid_sample(flow, driving[:, None], align_corners=True, padding_mode="border")[
        :, :, 0
    ]  # (B, 2, L)
    error = (found.transpose(1, 2) - (source - driving)).abs().mean(dim=-1)
    return torch.where(known, error, 0.0).sum() / known.sum().clamp(min=1)
