"""Discriminators: StyleGAN2's of whole frames (arXiv 1912.04958), and one of patches, for windows of a face."""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_modules.networks.layers import EqualConv, EqualLinear, ResidualDown, activate
from lightning_modules.networks.paper_renderer import scale_list


class Discriminator(nn.Module):
    """Real-or-generated logit of single frames: residual pyramid, minibatch deviation, two linear layers (StyleGAN2).

    Args:
        size: picture side, a power of two from 16.
        channels: feature channels per scale from 4 to ``size``.
    """

    def __init__(self, size: int, channels: Mapping[int, int]) -> None:
        super().__init__()
        channels = {int(k): int(v) for k, v in channels.items()}
        self.stem = EqualConv(3, channels[size], 1)
        self.blocks = nn.ModuleList(
            ResidualDown(channels[s], channels[s // 2]) for s in reversed(scale_list(size)) if s > 4
        )
        self.last = EqualConv(channels[4] + 1, channels[4], 3)
        self.hidden = EqualLinear(channels[4] * 16, channels[4])
        self.logit = EqualLinear(channels[4], 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(B, 3, S, S)`` in [-1, 1] to logits ``(B,)``; positive = looks real."""
        x = activate(self.stem(image))
        for block in self.blocks:
            x = block(x)
        # Deviation over the batch shows mode collapse.
        deviation = torch.sqrt(x.var(dim=0, unbiased=False) + 1e-8).mean()
        x = torch.cat([x, deviation.expand(x.shape[0], 1, 4, 4)], dim=1)
        x = activate(self.last(x)).flatten(1)
        return self.logit(activate(self.hidden(x)))[:, 0]


class PatchDiscriminator(nn.Module):
    """Real-or-generated logits of overlapping patches of a picture (Isola et al. 2017, arXiv 1611.07004).

    Args:
        channels: of the picture.
        width: channels after the first convolution; twice as many after the second, four times as many from the third on.
        layers: convolutions of stride 2: the side of what a logit sees is 22 pixels of three, 46 of four.
    """

    def __init__(self, channels: int = 3, width: int = 32, layers: int = 4) -> None:
        super().__init__()
        widths = [channels, *(width * min(2**layer, 4) for layer in range(layers))]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(one, two, 4, 2, 1))
            for one, two in itertools.pairwise(widths)
        )
        self.logit = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(B, C, h, w)`` to logits ``(B, h' w')``; positive = looks real."""
        return self.logits_and_features(image)[0]

    def logits_and_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits, and the feature maps of all layers that they are said by."""
        maps = [image]
        for layer in self.layers:
            maps.append(nn.functional.leaky_relu(layer(maps[-1]), 0.2))
        return self.logit(maps[-1]).flatten(1), maps[1:]
