"""Perceptual loss on VGG19 features (Johnson et al. 2016, arXiv 1603.08155)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import UserError

LAYERS = (3, 8, 13, 22, 31)
"""Indices in torchvision's VGG19 behind relu1_2, relu2_2, relu3_2, relu4_2 and relu5_2."""


class PerceptualLoss(nn.Module):
    """Mean L1 distance of VGG19 features at five depths, over the picture and its halves.

    Args:
        weights: ``torchvision`` (its ImageNet weights, 575 MB: from torch hub's cache, else downloaded and checked by
            torchvision), a path to such a state dict, or ``random`` for an untrained network (tests).
        levels: number of resolutions, each half the last.

    Raises:
        UserError: the weights can't be had or don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str = "torchvision", levels: int = 1) -> None:
        super().__init__()
        from torchvision.models import vgg19

        net = vgg19(weights=None)
        if weights != "random":
            net.load_state_dict(_read_weights(weights))
        self.features = net.features[: LAYERS[-1] + 1].eval().requires_grad_(False)
        self.levels = levels
        self.register_buffer(
            "mean", torch.tensor([0.485, 0.456, 0.406])[None, :, None, None], persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([0.229, 0.224, 0.225])[None, :, None, None], persistent=False
        )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance of two batches ``(B, 3, S, S)`` in [-1, 1]; a scalar."""
        total = prediction.new_zeros(())
        for level in range(self.levels):
            if level:
                prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
            x, y = (((image + 1) / 2 - self.mean) / self.std for image in (prediction, target))
            for index, layer in enumerate(self.features):
                x = layer(x)
                with torch.no_grad():
                    y = layer(y)
                if index in LAYERS:
                    total = total + F.l1_loss(x, y)
        return total / (self.levels * len(LAYERS))

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Stay in evaluation mode: the network is a fixed judge."""
        return super().train(False)


def _read_weights(weights: str) -> Mapping[str, Tensor]:
    from torchvision.models import VGG19_Weights

    try:
        if weights == "torchvision":
            return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        return torch.load(Path(weights), weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"VGG19 weights ({weights}): {error}; put vgg19-dcbb9e9d.pth of torchvision into torch hub's checkpoints folder, "
            "give its path as model.perceptual.weights, or set model.perceptual=null"
        ) from error
