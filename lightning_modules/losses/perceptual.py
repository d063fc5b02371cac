"""Perceptual loss on VGG19 features (Johnson et al. 2016, arXiv 1603.08155)."""

import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from datamodules.errors import UserError
from lightning_modules.losses.base import LossTerm, RenderedPairs

LAYERS = (3, 8, 13, 22, 31)
"""Indices in torchvision's VGG19 behind relu1_2, relu2_2, relu3_2, relu4_2 and relu5_2."""

_log = logging.getLogger(__name__)


class _Shared:
    """Holds a module that never changes where neither state dicts nor copies (the EMA's) reach it."""

    def __init__(self, module: nn.Sequential) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class PerceptualLoss(LossTerm):
    """Mean L1 distance of VGG19 features at five depths, over the picture and its halves.

    The VGG is a fixed judge: it has no part in checkpoints or averaged weights, copies of the loss share it, and it
    follows the device and type of the loss when that is called.

    Args:
        weight: factor in the sum.
        pretrained: ``cache`` (torchvision's ImageNet weights from torch hub's cache), ``torchvision`` (the same; where
            they are not in the cache, 575 MB are downloaded, announced and checked), a path to such a state dict, or
            ``random`` for an untrained network (tests).
        levels: number of resolutions, each half the last.

    Raises:
        UserError: the weights can't be had or don't fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weight: float = 1.0, pretrained: str = "cache", levels: int = 1) -> None:
        super().__init__(weight)
        from torchvision.models import vgg19

        net = vgg19(weights=None)
        if pretrained != "random":
            _load_weights(net, pretrained)
        self._shared = _Shared(net.features[: LAYERS[-1] + 1].eval().requires_grad_(False))
        self.levels = levels
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None], persistent=False)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """Distance of the rendered frames from the driving ones."""
        return self.distance(pairs.decoded.frame, batch.driving)

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance of two batches ``(B, 3, S, S)`` in [-1, 1]; a scalar."""
        features = self._shared.module.to(self.mean.device, self.mean.dtype)
        total = prediction.new_zeros(())
        for level in range(self.levels):
            if level:
                prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
            x, y = (((image + 1) / 2 - self.mean) / self.std for image in (prediction, target))
            for index, layer in enumerate(features):
                x = layer(x)
                with torch.no_grad():
                    y = layer(y)
                if index in LAYERS:
                    total = total + F.l1_loss(x, y)
        return total / (self.levels * len(LAYERS))


def _load_weights(net: nn.Module, pretrained: str) -> None:
    from torchvision.models import VGG19_Weights

    published = VGG19_Weights.IMAGENET1K_V1
    try:
        if pretrained in ("cache", "torchvision"):
            file = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
            if not file.is_file():
                if pretrained == "cache":
                    raise FileNotFoundError(f"{file} is not there")
                _log.warning("VGG19 weights: downloading 575 MB from %s to %s", published.url, file)
            state = published.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(Path(pretrained), weights_only=True)
        net.load_state_dict(state)
    except (OSError, RuntimeError, TypeError, UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"VGG19 weights ({pretrained}): {reason}; put vgg19-dcbb9e9d.pth of torchvision into torch hub's checkpoints "
            "folder, or set model.losses.perceptual.pretrained to its path or to 'torchvision' (downloads 575 MB), or "
            "model.losses.perceptual=null"
        ) from error
