"""EfficientNet-Lite0 of the package against the package's own forward, and what its distance says of graded corruptions."""

import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.fid import FrechetInceptionDistance
from metrics.judges.efficientnet import DEPTHS, EfficientNetFeatures, load_efficientnet, weights_file

SIDE = 64


@pytest.fixture(scope="module")
def network() -> EfficientNetFeatures:
    return load_efficientnet()


@pytest.fixture(scope="module")
def patches() -> Tensor:
    """Squares ``(N, 3, 64, 64)`` in [0, 1] of photographs."""
    found = []
    for picture in (data.astronaut(), data.coffee(), data.chelsea()):
        image = torch.tensor(picture).permute(2, 0, 1).float() / 255
        squares = image.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)
        found.append(squares.permute(1, 2, 0, 3, 4).reshape(-1, 3, SIDE, SIDE)[::6])
    return torch.cat(found)


def test_maps_are_those_of_the_packages_own_forward(network):
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_name("efficientnet-lite0").eval()
    whole.load_state_dict(torch.load(weights_file(), weights_only=True))
    seen: dict[int, Tensor] = {}
    for depth in DEPTHS:
        whole._blocks[depth].register_forward_hook(
            lambda _, __, out, depth=depth: seen.__setitem__(depth, out)
        )
    pictures = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        whole(pictures)
        found = network.maps(pictures)
    for depth, one in zip(DEPTHS, found, strict=True):
        torch.testing.assert_close(one, seen[depth])


def test_the_network_knows_pictures(network):
    """Of the classes of ImageNet a cat is one of five, a cup of coffee one of two: as pictures are prepared here."""
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_name("efficientnet-lite0").eval()
    whole.load_state_dict(torch.load(weights_file(), weights_only=True))
    for picture, classes in (
        (data.chelsea()[:, 75:375], range(281, 286)),
        (data.coffee()[:, 100:500], (967, 968)),
    ):
        image = torch.tensor(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            said = whole(F.interpolate(image, (224, 224), mode="bilinear", antialias=True)).softmax(1)[0]
        assert said[list(classes)].sum() > 0.7


def blurred(x: Tensor, strength: int) -> Tensor:
    return F.avg_pool2d(x, 2 * strength + 1, 1, strength, count_include_pad=False)


def noisy(x: Tensor, strength: int) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return x + 0.03 * strength * noise


def coarse(x: Tensor, strength: int) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, 2**strength), scale_factor=2**strength, mode="nearest")


@pytest.mark.parametrize("corrupt", [blurred, noisy, coarse])
def test_the_distance_orders_graded_corruptions(network, patches, corrupt):
    said = []
    for strength in (1, 2, 3):
        metric = FrechetInceptionDistance(network)
        metric.update((patches * 255).round().byte(), real=True)
        metric.update((corrupt(patches, strength).clamp(0, 1) * 255).round().byte(), real=False)
        said.append(float(metric.compute()))
    assert said == sorted(said)
    assert said[0] > 0
    assert said[-1] > 1.5 * said[0]


def test_a_judge_does_not_train(network):
    assert not network.train().training
    assert not any(one.requires_grad for one in network.parameters())
    assert not any(isinstance(one, nn.BatchNorm2d) and one.training for one in network.modules())
