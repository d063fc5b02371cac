"""The feature networks of the Fréchet distances: pytorch-fid's Inception for pictures, I3D for windows of frames.

Both are read from files that `datamodules.assets` finds; nothing is downloaded here.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules import assets

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
I3D_FILE = "i3d_torchscript.pt"


class FIDInception(nn.Module):
    """Inception up to its last pooling, pictures prepared as the ``pytorch-fid`` command prepares them.

    ``network`` is what `fid_network` builds; it is frozen.

    Source: Heusel et al. 2017; https://github.com/mseitzer/pytorch-fid.
    """

    num_features = 2048  # of a picture

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        stem = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "")
        mixed = (
            f"Mixed_{name}" for name in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
        )
        self.layers = nn.Sequential(
            *(network.get_submodule(name) if name else nn.MaxPool2d(3, 2) for name in (*stem, *mixed)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 2048)`` float32 of pictures ``(N, 3, H, W)`` uint8."""
        scaled = F.interpolate(images.float() / 255, size=(299, 299), mode="bilinear", align_corners=False)
        return self.layers(2 * scaled - 1)  # (N, 3, 299, 299) -> (N, 2048)


def fid_network() -> nn.Module:
    """The untrained network under the names of the published weights: torchvision's with pytorch-fid's blocks."""
    from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    for name, channels, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        setattr(network, f"Mixed_{name}", FIDInceptionA(channels, pool_features=pooled))
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", FIDInceptionC(768, channels_7x7=inner))
    network.Mixed_7b = FIDInceptionE_1(1280)
    network.Mixed_7c = FIDInceptionE_2(2048)
    return network


def load_fid_inception(weights: str | Path | None = None) -> FIDInception:
    """The Inception of the ``pytorch-fid`` command, by the published file; it is looked for among the assets if left out.

    Raises:
        MissingAssetError: The file is not there.
    """
    state = torch.load(weights or assets.find(INCEPTION_FILE), map_location="cpu", weights_only=True)
    with torch.device("meta"):  # neither time nor random numbers for weights that are replaced at once
        network = fid_network()
    network.load_state_dict(state, assign=True)
    return FIDInception(network)


class I3D(nn.Module):
    """I3D called as StyleGAN-V's script calls it: the TorchScript module itself resizes to 224 and scales to [-1, 1].

    Source: Carreira and Zisserman 2017; Unterthiner et al. 2018; Skorokhodov et al. 2022 (StyleGAN-V).
    """

    num_features = 400  # of a window, before the softmax

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script
        self.requires_grad_(False).eval()

    def forward(self, windows: Tensor) -> Tensor:
        """Features ``(N, 400)`` float32 of windows ``(N, 16, 3, H, W)`` uint8."""
        clips = windows.float().transpose(1, 2).contiguous()  # (N, 3, 16, H, W)
        return self.script(clips, rescale=True, resize=True, return_features=True)


def load_i3d(weights: str | Path | None = None) -> I3D:
    """I3D trained on Kinetics-400, by the published TorchScript file, which is looked for among the assets if left out.

    It holds code: give no other.

    Raises:
        MissingAssetError: The file is not there.
    """
    path = weights or assets.find(I3D_FILE)
    with warnings.catch_warnings():  # the format is old, but the published numbers were made with this file
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        return I3D(torch.jit.load(str(path), map_location="cpu"))
