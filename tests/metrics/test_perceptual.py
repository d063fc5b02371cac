"""LPIPS against the lpips package, PSNR and SSIM against scikit-image on real frames."""

import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.metrics
import torch
import torch.nn.functional as F
from metrics.lpips import ALEXNET_FILE, LPIPS, load_lpips
from torch import Tensor, nn

from datamodules import assets
from metrics.reconstruction import PSNR, SSIM


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


def real_pairs(shared: Path) -> tuple[Tensor, Tensor]:
    """Frames 256 px high of a real clip and those a quarter of a second later, ``(6, 3, 256, W)`` uint8."""
    from datamodules.media.video import VideoReader

    reader = VideoReader(shared / "data/clips/hdtf_wda_katiehill.mp4")
    first = np.arange(6) * 20
    both = torch.from_numpy(reader.get([*first, *(first + 6)])).permute(0, 3, 1, 2).float()
    small = F.interpolate(both, size=(256, 256 * both.shape[3] // both.shape[2]), mode="area")
    return small[:6].round().to(torch.uint8), small[6:].round().to(torch.uint8)


def lpips_of_the_package(
    home: Path, predicted: Tensor, target: Tensor, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    import lpips

    monkeypatch.setenv("TORCH_HOME", str(home))
    network = lpips.LPIPS(net="alex", version="0.1", verbose=False)
    first, second = (
        torch.cat([lpips.im2tensor(image) for image in side.permute(0, 2, 3, 1).numpy()])
        for side in (predicted, target)
    )
    with torch.no_grad():
        return network(first, second).flatten()


@pytest.mark.parametrize("source", ["noise", "clip"])
def test_lpips_is_that_of_the_package(source, torch_home, fresh, monkeypatch, request):
    """With the same random backbone and the package's linear heads on both sides."""
    predicted, target = real_pairs(request.getfixturevalue("shared")) if source == "clip" else noisy_pairs()
    expected = lpips_of_the_package(torch_home, predicted, target, monkeypatch)
    found = fresh.distances(predicted, target)
    print(f"LPIPS {found.mean():.6f}, largest difference {(found - expected).abs().max():.1e}")
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
    with pytest.raises(ValueError, match="against"):
        fresh.update(predicted, target[:2])


class SquaredDifference(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).square().mean(dim=(1, 2, 3), keepdim=True)


def test_two_processes_are_as_good_as_one(tmp_path):
    predicted, target = noisy_pairs()
    alone = LPIPS(SquaredDifference())
    alone.update(predicted, target)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run(rank: int) -> None:
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=rank, world_size=2
        )
        metric = LPIPS(SquaredDifference())
        share = slice(0, 2) if rank else slice(2, 6)
        metric.update(predicted[share], target[share])
        results.put(float(metric.compute()))
        torch.distributed.destroy_process_group()

    children = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    for _ in children:
        assert results.get() == pytest.approx(float(alone.compute()), rel=1e-6)


def test_psnr_and_ssim_of_real_frames_are_scikit_images(shared):
    predicted, target = real_pairs(shared)
    psnr, ssim = PSNR(), SSIM()
    for part in (slice(0, 1), slice(1, 6)):
        psnr.update(predicted[part], target[part])
        ssim.update(predicted[part], target[part])
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(target, predicted, strict=True)]
    expected_psnr = skimage.metrics.peak_signal_noise_ratio(target.numpy(), predicted.numpy(), data_range=255)
    expected_ssim = np.mean([skimage.metrics.structural_similarity(a, b, channel_axis=0) for a, b in pairs])
    print(f"PSNR {expected_psnr:.4f}, difference {abs(float(psnr.compute()) - expected_psnr):.1e}")
    print(f"SSIM {expected_ssim:.6f}, difference {abs(float(ssim.compute()) - expected_ssim):.1e}")
    assert float(psnr.compute()) == pytest.approx(expected_psnr, abs=1e-6)
    assert float(ssim.compute()) == pytest.approx(expected_ssim, abs=1e-6)


def test_missing_weights_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "search_folders", lambda: [tmp_path])
    with pytest.raises(assets.MissingAssetError, match=r"alexnet-owt-7be5be79\.pth.*ifmdm assets fetch"):
        LPIPS()
