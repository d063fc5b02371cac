"""The public judges' networks with random weights: worth nothing as judges, and as slow as the real ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MIXED = (  # channels of the four branches, those of the middle two before and after their convolution
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def _unit(before: int, after: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv3d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(after), nn.ReLU(inplace=True))


def _flat_pool() -> nn.MaxPool3d:
    return nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))


class _Mixed(nn.Module):
    def __init__(self, before: int, channels: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        a, b0, b1, c0, c1, d = channels
        pool = nn.MaxPool3d(3, 1, 1)
        second, third = ((_unit(before, x), _unit(x, y, 3)) for x, y in ((b0, b1), (c0, c1)))
        branches = (_unit(before, a),), second, third, (pool, _unit(before, d))
        self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class RandomI3D(nn.Module):
    """I3D by its layers, called like its TorchScript file.

    Source: Carreira and Zisserman 2017, figure 3; channels of Szegedy et al. 2015, table 1.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, 64, 7, 2), _flat_pool(), _unit(64, 64)]
        layers += [_unit(64, 192, 3), _flat_pool()]
        width = 192
        for place, channels in enumerate(_MIXED):
            if place == 2:
                layers.append(nn.MaxPool3d(3, 2, 1))
            if place == 7:
                layers.append(nn.MaxPool3d(2, 2))
            layers.append(_Mixed(width, channels))
            width = channels[0] + channels[2] + channels[4] + channels[5]
        self.layers = nn.Sequential(*layers, nn.AvgPool3d((2, 7, 7), 1), nn.Conv3d(width, 400, 1))

    def forward(
        self, clips: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = True
    ) -> Tensor:
        """Features ``(N, 400)`` of windows ``(N, 3, 16, H, W)`` in 0..255."""
        sized = F.interpolate(clips, size=(clips.shape[2], 224, 224), mode="trilinear", align_corners=False)
        return self.layers(sized / 127.5 - 1).mean(dim=(2, 3, 4))
