"""Reconstruction, frame by frame, as a network sees it: LPIPS."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules import assets
from datamodules.media.pictures import to_float
from metrics.base import PictureMean
from metrics.checks import as_uint8_pair
from metrics.precision import single_precision

ALEXNET_FILE = "alexnet-owt-7be5be79.pth"


def load_lpips(weights: str | Path | None = None) -> nn.Module:
    """The network of the lpips package, AlexNet, version 0.1, frozen.

    Args:
        weights: torchvision's AlexNet file for the backbone; looked for among the assets if left out. The linear
            heads come with the package.

    Raises:
        MissingAssetError: The file is not there.
    """
    import lpips

    state = torch.load(weights or assets.find(ALEXNET_FILE), map_location="cpu", weights_only=True)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The package asks torchvision in a way of the past.
        warnings.filterwarnings("ignore", "(The parameter 'pretrained'|Arguments other than a weight enum)")
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    backbone = network.net
    # slice2.3.weight of the package is features.3.weight of torchvision.
    own = {name: f"features.{name.split('.', 1)[1]}" for name in backbone.state_dict()}
    backbone.load_state_dict({name: state[published] for name, published in own.items()})
    return network.requires_grad_(False).eval()


class LPIPS(PictureMean):
    """Mean LPIPS over the images. 0 is best.

    Args:
        network: Maps two float images in [-1, 1] to one distance an image; AlexNet v0.1 of the lpips package if
            left out. With another backbone the result is no LPIPS.
        kwargs: torchmetrics'.

    Raises:
        MissingAssetError: The backbone's weights are not there.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
    """

    def __init__(self, network: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = load_lpips() if network is None else network

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add images ``(N, 3, H, W)``, uint8 or float in [-1, 1], which is rounded to 8 bits first."""
        self.add(self.distances(predicted, target))

    @torch.no_grad()
    def distances(self, predicted: Tensor, target: Tensor) -> Tensor:
        """LPIPS ``(N,)`` float32 of each pair of images, given as to `update`; errors as of `as_uint8_pair`."""
        first, second = as_uint8_pair(predicted, target)
        self.network.eval()
        with single_precision(predicted.device):
            return self.network(to_float(first), to_float(second)).flatten()
