"""Building blocks of the StyleGAN2 family: equalised layers, modulated convolution, residual downsampling, warping.

Sources: equalised learning rate, Karras et al. 2018 (arXiv 1710.10196), section 4.1; weight demodulation and
residual downsampling, Karras et al. 2020 (arXiv 1912.04958), equations 1-3.
"""

import contextlib
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.processes import mean_of_processes, whole_batch

NORM_GROUPS = 8
"""Of the group norms of `ModulatedNormConv`."""


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Where float32 stays float32 whatever the rest computes in: of places a step of bfloat16 is a pixel or two."""
    if device.type == "meta":  # knows no autocast
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class EqualLinear(nn.Module):
    """Linear layer with the learning rate equalised at run time: unit-variance weights, scaled by 1/sqrt(fan-in)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, bias_init: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias_init)) if bias else None
        self.scale = 1.0 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        return F.linear(x, self.weight * self.scale, self.bias)


class EqualConv(nn.Module):
    """Convolution with an equalised learning rate, same padding, stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1.0 / math.sqrt(inputs * kernel * kernel)
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H, W)``."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU (slope 0.2) scaled by sqrt(2), which keeps the variance of unit Gaussian input."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2.0)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style, with outputs demodulated to unit variance.

    The style scales the activations and the demodulation scales the result, instead of building one kernel per
    sample: the same arithmetic (equations 1-3 of StyleGAN2), one ordinary convolution for the whole batch.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel; 3 where it doubles the resolution.
        style_dim: size of the style.
        demodulate: whether outputs are scaled to unit variance.
        zero: whether it starts as nothing.
        bias: whether outputs have one.
        double: whether it doubles the resolution, by a transposed convolution of stride 2 and the binomial filter.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style_dim: int,
        demodulate: bool = True,
        zero: bool = False,
        bias: bool = True,
        double: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.doubles = double
        self.style = EqualLinear(style_dim, inputs, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(inputs * kernel * kernel)
        self.demodulate = demodulate
        self.padding = kernel // 2
        if zero:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Map ``x (B, inputs, H, W)`` with ``latent (B, style_dim)`` to ``(B, outputs, H, W)``, or twice the sides."""
        style = self.style(latent)  # (B, inputs)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None]
        if self.doubles:
            y = binomial(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4.0)
        else:
            y = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            energy = style.float().square() @ weight.float().square().sum(dim=(2, 3)).t()  # (B, outputs)
            y = y * torch.rsqrt(energy + 1e-8).to(y.dtype)[:, :, None, None]
        return y if self.bias is None else y + self.bias.to(y.dtype)[None, :, None, None]


class StyledBlock(nn.Module):
    """One scale of the decoder: modulated 3x3 convolution, upsampling by two, modulated 3x3 convolution.

    The first convolution runs before the bilinear upsampling, at a quarter of the cost of running after it; with
    ``transposed`` it doubles the resolution itself, at the same cost.
    """

    def __init__(
        self, inputs: int, outputs: int, style_dim: int, upsample: bool = True, transposed: bool = False
    ) -> None:
        super().__init__()
        self.transposed = transposed
        self.conv1 = ModulatedConv(inputs, outputs, 3, style_dim, double=transposed) if upsample else None
        self.conv2 = ModulatedConv(outputs, outputs, 3, style_dim)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, 2H, 2W)``, or keep the size where upsampling is off."""
        if self.conv1 is not None:
            x = activate(self.conv1(x, latent))
            x = x if self.transposed else upsample(x)
        return activate(self.conv2(x, latent))


class RGBHead(nn.Module):
    """1x1 convolution to colours, activated, with a bias before and behind; no style acts on it."""

    def __init__(self, inputs: int, zero: bool = False) -> None:
        super().__init__()
        self.conv = EqualConv(inputs, 3, 1)
        self.bias = nn.Parameter(torch.zeros(3))
        if zero:
            nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, 3, H, W)``."""
        return activate(self.conv(x)) + self.bias.to(x.dtype)[:, None, None]


class ModulatedNormConv(nn.Module):
    """3x3 convolution and group norm, then scale and shift by a style (FiLM, arXiv 1709.07871), then SiLU."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm = nn.GroupNorm(NORM_GROUPS, outputs, affine=False)
        self.modulation = nn.Linear(style_dim, 2 * outputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map ``x (B, inputs, H, W)`` with ``style (B, style_dim)``."""
        scale, shift = self.modulation(style)[:, :, None, None].chunk(2, dim=1)
        return F.silu(self.norm(self.conv(x)) * (1 + scale) + shift)


class ResidualDown(nn.Module):
    """Residual block that halves the resolution: 3x3 convolution, blur-pool, 3x3 convolution; 1x1 skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(inputs, inputs, 3)
        self.conv2 = EqualConv(inputs, outputs, 3)
        self.skip = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H/2, W/2)``."""
        main = activate(self.conv2(blur_pool(activate(self.conv1(x)))))
        return (main + self.skip(blur_pool(x))) / math.sqrt(2.0)


class RunningNorm(nn.Module):
    """Standardises each value by its running mean and variance, in training and evaluation alike.

    A random encoder maps all pictures to nearly the same latent; without this the little that tells them apart would first
    have to be found. Statistics carry no gradient; the first batches count fully, later ones with ``momentum``; none
    once it is ``frozen``, as where the layers before it don't learn.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, dim: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum, self.frozen = momentum, False
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise ``(B, dim)``."""
        if self.training and not self.frozen and whole_batch(len(x)) > 1:
            with torch.no_grad():
                self.batches += 1
                share = max(self.momentum, 1.0 / float(self.batches))
                self.mean += share * (mean_of_processes(x.mean(0)) - self.mean)
                spread = mean_of_processes((x - self.mean).square().mean(0))
                self.variance += share * (spread - self.variance)
        return (x - self.mean) * torch.rsqrt(self.variance + 1e-6)


def blur_pool(x: Tensor) -> Tensor:
    """Halve the resolution behind the binomial filter (Zhang 2019, arXiv 1904.11486); zeros outside."""
    return binomial(x, stride=2)


def binomial(x: Tensor, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Filter ``(B, C, H, W)`` by [1, 3, 3, 1] along both axes, times ``gain``; zeros outside, one pixel lost of each side."""
    channels = x.shape[1]
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8.0
    kernel = (gain * taps[:, None] * taps[None, :]).expand(channels, 1, 4, 4)
    return F.conv2d(x, kernel, stride=stride, padding=1, groups=channels)


def upsample(x: Tensor) -> Tensor:
    """Double the resolution bilinearly; pixel centres follow ``align_corners=False``."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def resized(x: Tensor, side: int) -> Tensor:
    """``(B, C, side, side)`` bilinearly, by pixel centres."""
    return x if x.shape[-1] == side else F.interpolate(x, (side, side), mode="bilinear", align_corners=False)


def blurred(pictures: Tensor, pixels: int) -> Tensor:
    """Pictures ``(B, C, h, w)`` without what is smaller than so many pixels."""
    small = F.avg_pool2d(pictures, pixels, ceil_mode=True, count_include_pad=False)
    return F.interpolate(small, pictures.shape[-2:], mode="bilinear", align_corners=False)


def identity_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Sampling grid ``(1, H, W, 2)`` (x, y in [-1, 1], corner pixels at the ends) that ``warp`` maps to a copy."""
    lines = [torch.linspace(-1, 1, side, device=device) for side in (width, height)]
    return torch.stack(torch.meshgrid(*lines, indexing="xy"), dim=-1)[None]


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample ``x (B, C, H, W)`` at the identity grid plus ``flow (B, 2, H, W)``.

    Flow is in units of half the picture (2 = the whole width). Corner-aligned, because a grid made by ``linspace``
    is an identity only so; border pixels repeat outside.
    """
    grid = identity_grid(flow.shape[2], flow.shape[3], flow.device) + flow.float().permute(0, 2, 3, 1)
    return sample_in_border(x.float(), grid, align_corners=True).to(x.dtype)


def warp_by_centres(x: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample ``x (B, C, H, W)`` at its pixels' centres plus ``flow (B, 2, h, w)`` in half pictures, whatever its size.

    Unlike `warp`, whose grid ends at the centres of the corner pixels, this one means the same at every resolution.
    """
    height, width = flow.shape[2:]
    lines = [(2 * torch.arange(side, device=x.device) + 1) / side - 1 for side in (width, height)]
    grid = torch.stack(torch.meshgrid(*lines, indexing="xy"), dim=-1) + flow.float().permute(0, 2, 3, 1)
    return sample_in_border(x.float(), grid, align_corners=False, mode=mode).to(x.dtype)


def sample_in_border(x: Tensor, grid: Tensor, align_corners: bool, mode: str = "bilinear") -> Tensor:
    """Sample ``x (B, C, H, W)`` at ``grid (B, h, w, 2)``; border pixels repeat outside.

    Where the grid is NaN it is taken as the middle: on a CPU the backward of torch's function ends the process there. What
    made it NaN gets gradients of NaN all the same.
    """
    return F.grid_sample(x, grid.nan_to_num(), mode=mode, padding_mode="border", align_corners=align_corners)
