"""Perceptual loss: distance of the features of a network that knows pictures (Johnson et al. 2016, arXiv 1603.08155)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from datamodules.errors import UserError
from lightning_modules.losses.base import LossTerm, RenderedPairs
from lightning_modules.networks.face_windows import KINDS, FaceWindows

LAYERS = {"relu_1": (1, 6, 11, 20, 29), "relu_2": (3, 8, 13, 22, 31)}
"""Indices in torchvision's VGG19 behind the first or second convolution of each of its five blocks."""

_log = logging.getLogger(__name__)


class VGGFeatures(nn.Module):
    """Features of VGG19 at five depths, frozen.

    Args:
        pretrained: ``cache`` (torchvision's ImageNet weights from torch hub's cache), ``torchvision`` (the same; where
            they are not in the cache, 575 MB are downloaded, announced and checked), a path to such a state dict, or
            ``random`` for an untrained network (tests).
        layers: of ``LAYERS``.

    Raises:
        UserError: the weights can't be had or don't fit.

    Source: Simonyan and Zisserman 2015 (arXiv 1409.1556).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, pretrained: str = "cache", layers: str = "relu_2") -> None:
        super().__init__()
        from torchvision.models import vgg19

        net = vgg19(weights=None)
        if pretrained != "random":
            _load_weights(net, pretrained)
        self.depths = LAYERS[layers]
        self.layers = net.features[: self.depths[-1] + 1]
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps at the depths of pictures ``(N, 3, H, W)`` in [-1, 1]."""
        x, found = ((images + 1) / 2 - self.mean) / self.std, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.depths:
                found.append(x)
        return found


class UnitFeatures(nn.Module):
    """Features of EfficientNet-Lite0 at four depths, of unit length over channels; see `load_efficientnet`.

    A tenth of VGG19's operations, and its weights come with the installation.

    Raises:
        UserError: the packages are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        from metrics.judges.efficientnet import load_efficientnet

        self.network = load_efficientnet()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of pictures ``(N, 3, H, W)`` in [-1, 1]."""
        return [F.normalize(one, dim=1) for one in self.network.maps(images)]


class _Shared:
    """Holds a module that never changes where neither state dicts nor copies (the EMA's) reach it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class PerceptualLoss(LossTerm):
    """L1 distance of features at several depths, over the picture and its halves.

    The network is a fixed judge: it has no part in checkpoints or averaged weights, copies of the loss share it, and it
    follows the device and type of the loss when that is called.

    Args:
        weight: factor in the sum.
        features: has ``maps``: of pictures in [-1, 1] a list of feature maps.
        levels: number of resolutions, each half the last.
        side: at which larger pictures are looked at; None = at their own.
        total: whether depths and resolutions are summed, as published recipes do, instead of averaged.
    """

    probe: Tensor

    def __init__(
        self,
        features: nn.Module,
        weight: float = 1.0,
        levels: int = 1,
        side: int | None = None,
        total: bool = False,
    ) -> None:
        super().__init__(weight)
        self._shared = _Shared(features)
        self.levels, self.side, self.total = levels, side, total
        self.register_buffer("probe", torch.zeros(()), persistent=False)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """Distance of the rendered frames from the driving ones."""
        frame, driving = pairs.decoded.frame, batch.driving
        if self.side is not None and frame.shape[-1] > self.side:
            frame, driving = (F.interpolate(one, (self.side,) * 2, mode="area") for one in (frame, driving))
        return self.distance(frame, driving)

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance of two batches ``(B, 3, S, S)`` in [-1, 1]; a scalar."""
        features: Any = self._shared.module.to(self.probe.device, self.probe.dtype)
        found = []
        for level in range(self.levels):
            if level:
                prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
            with torch.no_grad():
                wanted = features.maps(target)
            found += [
                F.l1_loss(one, other) for one, other in zip(features.maps(prediction), wanted, strict=True)
            ]
        distances = torch.stack(found)
        return distances.sum() if self.total else distances.mean()


class FaceFeatureLoss(PerceptualLoss):
    """The same distance of mouth, eyes and halves of the face, each cut out and brought to one size: a closer look.

    Args:
        features: as in `PerceptualLoss`.
        weight: factor in the sum.
        side: of the windows in pixels.
        kinds: which windows, see `FaceWindows`.
    """

    def __init__(
        self, features: nn.Module, weight: float = 1.0, side: int = 80, kinds: Sequence[str] = KINDS
    ) -> None:
        super().__init__(features, weight)
        self.windows = FaceWindows(side, kinds)

    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor:
        """Distance of the windows of the rendered frames from those of the driving ones."""
        return self.distance(
            *(self.windows(one, batch.regions)[:, :3] for one in (pairs.decoded.frame, batch.driving))
        )


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
            "folder, or set model.losses.perceptual.features.pretrained to its path or to 'torchvision' (downloads 575 MB), "
            "or model.losses.perceptual=null monitor=val/loss"
        ) from error
