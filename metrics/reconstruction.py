"""Reconstruction, frame by frame: PSNR, SSIM, L1. Against free generation they reward stillness: not for that."""

import torch
from torch import Tensor

from metrics.base import PictureMean
from metrics.checks import as_uint8_pair

_WINDOW = 7
_PIXELS = 2**18  # at a time: what the pictures in between need then fits a processor's cache


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error of every pixel summed over its colours, ``(N, H, W)`` float32 on the 8-bit scale.

    Of images ``(N, 3, H, W)``, uint8 or float in [-1, 1]; errors as of `as_uint8_pair`.
    """
    first, second = as_uint8_pair(predicted, target)
    return (first.float() - second.float()).square().sum(dim=1)


def structural_similarity(predicted: Tensor, target: Tensor) -> Tensor:
    """SSIM ``(N,)`` float64 in [-1, 1] as scikit-image defines it by default: 7x7 uniform window, sample covariance.

    Of images ``(N, 3, H, W)``, uint8 or float in [-1, 1].

    Raises:
        ValueError: H or W is below 7, or see `as_uint8_pair`.

    Source: Wang et al. 2004, equation 13.
    """
    pair = as_uint8_pair(predicted, target)
    height, width = predicted.shape[-2:]
    if min(height, width) < _WINDOW:
        raise ValueError(f"images of {height}x{width} pixels, SSIM needs {_WINDOW}x{_WINDOW} or more")
    planes = (images.flatten(0, 1).split(max(1, _PIXELS // (height * width))) for images in pair)
    values = torch.cat([_similarity_of_planes(x, y) for x, y in zip(*planes, strict=True)])
    return values.view(len(predicted), 3).mean(dim=1)


def _similarity_of_planes(x: Tensor, y: Tensor) -> Tensor:
    """SSIM ``(P,)`` float64 of single colours ``(P, H, W)`` uint8.

    With sums instead of means in equation 13: those of whole numbers in 7x7 pixels are below 2^24, so exact in float32.
    """
    x, y = x.float(), y.float()
    count = _WINDOW**2
    c1, c2 = count**2 * (0.01 * 255) ** 2, count * (count - 1) * (0.03 * 255) ** 2
    sum_x, sum_y, squares, product = (_window_sums(part).double() for part in (x, y, x * x + y * y, x * y))
    of_means, means = sum_x * sum_y, sum_x.square_().add_(sum_y.square_())
    structure = (2 * product.mul_(count).sub_(of_means)).add_(c2) / squares.mul_(count).sub_(means).add_(c2)
    return structure.mul_((2 * of_means).add_(c1)).div_(means.add_(c1)).mean(dim=(1, 2))


def _window_sums(values: Tensor) -> Tensor:
    """Sums ``(P, H - 6, W - 6)`` over 7x7 pixels of ``(P, H, W)``: pairs, fours, then two fours that share one."""
    for axis in (-1, -2):
        size = values.shape[axis] - _WINDOW + 1
        pairs = values.narrow(axis, 0, size + 5) + values.narrow(axis, 1, size + 5)
        fours = pairs.narrow(axis, 0, size + 3) + pairs.narrow(axis, 2, size + 3)
        values = fours.narrow(axis, 0, size) + fours.narrow(axis, 3, size) - values.narrow(axis, 3, size)
    return values


def _region_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixels have their centre in boxes ``(N, R, 4)`` of x0, y0, x1, y1 in [0, 1]: ``(N, R, H, W)`` bool."""
    xs = (torch.arange(width, device=boxes.device) + 0.5) / width
    ys = (torch.arange(height, device=boxes.device) + 0.5) / height
    x0, y0, x1, y1 = (boxes[..., index, None] for index in range(4))
    across = (xs >= x0) & (xs < x1)  # (N, R, W)
    down = (ys >= y0) & (ys < y1)  # (N, R, H)
    return down[..., :, None] & across[..., None, :]


def region_errors(predicted: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """Squared error summed over the whole clip in the mouth boxes and in both eye boxes.

    Args:
        predicted: ``(N, 3, H, W)`` uint8, or float in [-1, 1].
        target: Like ``predicted``.
        boxes: ``(N, 3, 4)`` mouth, left eye, right eye in [0, 1].

    Returns:
        ``(2,)`` float64: mouth, eyes.

    Raises:
        ValueError: Boxes of another shape or in pixels, or see `as_uint8_pair`.
    """
    if boxes.shape != (len(predicted), 3, 4) or bool((boxes.abs() > 2).any()):
        raise ValueError(
            f"boxes must be ({len(predicted)}, 3, 4) in [0, 1], not pixels; got {tuple(boxes.shape)} {boxes.dtype}"
        )
    error = squared_error(predicted, target).double()
    masks = _region_masks(boxes, *error.shape[-2:])
    eyes = masks[:, 1] | masks[:, 2]
    return torch.stack([(error * masks[:, 0]).sum(), (error * eyes).sum()])


class L1(PictureMean):
    """Mean absolute difference in [0, 1] as a share of the 8-bit range, pooled over all pixels. 0 is best."""

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add images ``(N, 3, H, W)``, uint8 or float in [-1, 1]."""
        first, second = as_uint8_pair(predicted, target)
        self.add((first.float() - second.float()).abs() / 255)


class PSNR(PictureMean):
    """Peak signal-to-noise ratio in dB of the squared error pooled over all frames (not a mean of dB)."""

    higher_is_better = True

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add images ``(N, 3, H, W)``, uint8 or float in [-1, 1]."""
        self.add(squared_error(predicted, target), predicted.numel())

    def compute(self) -> Tensor:
        """PSNR in dB; infinite for equal images."""
        return 10 * torch.log10(255.0**2 * self.count / self.total)


class SSIM(PictureMean):
    """Mean structural similarity over the images, scikit-image's definition. 1 is best."""

    higher_is_better = True

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add images ``(N, 3, H, W)``, uint8 or float in [-1, 1]; H, W >= 7."""
        self.add(structural_similarity(predicted, target))
