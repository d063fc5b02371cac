"""What judges runs in single precision, and the training around it finds its settings again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metrics.fid import extract_features
from metrics.judges.frame_regressor import FrameRegressor
from metrics.judges.syncnet import SyncNet
from metrics.lpips import LPIPS
from metrics.precision import single_precision
from metrics.sync import lip_sync


def settings() -> dict[str, Any]:
    """All that decides on how float32 is multiplied, and autocast."""
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    places: dict[str, Any] = {
        "matmul": cuda.matmul,
        "conv": cudnn.conv,
        "cpu_matmul": cpu.matmul,
        "cpu_conv": cpu.conv,
    }
    found = {name: place.fp32_precision for name, place in places.items()}
    return found | {"autocast": torch.is_autocast_enabled("cpu")}


def old_settings() -> tuple[str, bool, bool]:
    """The same by the older names, which raise an error where they don't fit the newer ones."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return torch.get_float32_matmul_precision(), *allowed


SINGLE = dict.fromkeys(("matmul", "conv", "cpu_matmul", "cpu_conv"), "ieee") | {"autocast": False}


@pytest.fixture(params=["highest", "high", "medium"])
def matmul_precision(request: pytest.FixtureRequest) -> Iterator[str]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


class Watched(nn.Module):
    """Notes the settings that it is called under."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        self.seen.append(settings())
        return images.float().mean(dim=(1, 2, 3))


def inception(seen: nn.Module) -> None:
    extract_features(seen, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def lpips(seen: Watched) -> None:
    LPIPS(seen).update(*torch.zeros(2, 2, 3, 8, 8, dtype=torch.uint8))


def regressor(seen: Watched) -> None:
    judge = FrameRegressor()
    judge.head.register_forward_hook(lambda *_: seen.seen.append(settings()))
    judge.measure(np.zeros((2, 64, 64, 3), np.uint8))


def sync(seen: Watched) -> None:
    class Expert(SyncNet):
        def audio_features(self, cepstra: Tensor) -> Tensor:
            seen.seen.append(settings())
            return super().audio_features(cepstra)

        def lip_track(self, frames: Tensor) -> Tensor:
            seen.seen.append(settings())
            return super().lip_track(frames)

    network = Expert(0.05, 51, (0.1, 0.3, 0.9, 1.0)).eval()
    lip_sync(network, torch.zeros(8, 3, 64, 64, dtype=torch.uint8), [torch.zeros(8 * 640)])
    assert len(seen.seen) == 2


@pytest.mark.parametrize("look", [inception, lpips, regressor, sync])
def test_judges_look_in_single_precision(look, matmul_precision):
    seen = Watched()
    with torch.autocast("cpu", torch.bfloat16):
        before = settings(), old_settings()
        look(seen)
        assert (settings(), old_settings()) == before
    assert before[1] == (matmul_precision, matmul_precision != "highest", True)
    assert before[0]["conv"] == "tf32"  # as PyTorch comes
    assert seen.seen
    assert all(one == SINGLE for one in seen.seen)


def test_products_are_those_of_single_precision(matmul_precision):
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 256, 256, generator=generator)
    with single_precision(torch.device("cpu")):
        product = left @ right
    difference = product - left.double() @ right.double()
    assert difference.abs().max() < 1e-3  # in bfloat16, where a CPU has it: 0.2


def test_settings_come_back_after_an_error(matmul_precision):
    before = settings(), old_settings()

    def fails(images: Tensor) -> Tensor:
        assert settings() == SINGLE
        raise ValueError("no face")

    network = nn.Module()
    network.forward = fails
    with pytest.raises(ValueError, match="no face"):
        inception(network)
    assert (settings(), old_settings()) == before
