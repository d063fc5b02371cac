"""LPIPS against the lpips package."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules import assets
from metrics.lpips import ALEXNET_FILE, LPIPS, load_lpips


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A torch hub cache with random AlexNet weights where the lpips package looks for the published ones."""
    from torchvision.models import alexnet

    home = tmp_path_factory.mktemp("torch_home")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), home / "hub" / "checkpoints" / ALEXNET_FILE)
    yield home
    shutil.rmtree(home)  # 240 MB


@pytest.fixture(scope="module")
def metric(torch_home: Path) -> LPIPS:
    return LPIPS(load_lpips(torch_home / "hub" / "checkpoints" / ALEXNET_FILE))


@pytest.fixture
def fresh(metric: LPIPS) -> LPIPS:
    metric.reset()
    return metric


def noisy_pairs(noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """6 smooth pictures ``(6, 3, 64, 64)`` uint8 under noise, and without."""
    generator = torch.Generator().manual_seed(0)
    target = F.interpolate(torch.rand(6, 3, 8, 8, generator=generator), size=64, mode="bilinear")
    predicted = (target + noise * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return (predicted * 255).round().to(torch.uint8), (target * 255).round().to(torch.uint8)


@pytest.mark.parametrize("source", ["noise", "clip"])
def test_lpips_is_that_of_the_package(source, torch_home, fresh, monkeypatch, request):
    """With the same random backbone and the package's linear heads on both sides."""
    import lpips

    predicted, target = pair = request.getfixturevalue("real_pairs") if source == "clip" else noisy_pairs()
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    arrays = (side.permute(0, 2, 3, 1).numpy() for side in pair)
    tensors = [torch.cat([lpips.im2tensor(image) for image in images]) for images in arrays]
    with torch.no_grad():
        expected = lpips.LPIPS(net="alex", version="0.1", verbose=False)(*tensors).flatten()
    found = fresh.distances(predicted, target)
    assert found.min() > 1e-3
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)
    for part in (slice(0, 1), slice(1, 6)):  # uneven batches
        fresh.update(predicted[part], target[part])
    assert float(fresh.compute()) == pytest.approx(float(expected.double().mean()), rel=1e-6)


def test_loading_is_frozen_and_draws_no_random_number(torch_home):
    before = torch.get_rng_state()
    network = load_lpips(torch_home / "hub" / "checkpoints" / ALEXNET_FILE)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_lpips_grows_with_the_noise_and_is_0_for_equal_pictures(fresh):
    means = []
    for noise in (0, 0.03, 0.1, 0.3):
        fresh.reset()
        fresh.update(*noisy_pairs(noise))
        means.append(float(fresh.compute()))
    assert means[0] == 0
    assert means == sorted(set(means))


def test_training_around_it_and_float_pictures_change_nothing(fresh):
    predicted, target = noisy_pairs()
    fresh.update(predicted, target)
    value = fresh.compute()
    fresh.reset()
    fresh.train()  # the heads hold dropout
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        fresh.update(predicted / 127.5 - 1 + 0.003, target / 127.5 - 1 - 0.003)
        assert fresh.compute() == value


@pytest.mark.usefixtures("no_assets")
def test_missing_weights_are_told():
    with pytest.raises(assets.MissingAssetError, match=r"alexnet-owt-7be5be79\.pth.*ifmdm assets fetch"):
        LPIPS()
