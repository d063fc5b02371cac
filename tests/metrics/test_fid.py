"""FID, KID and FVD: parity with the reference tools, batches and processes, behaviour."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import linalg
from torch import Tensor, nn

from datamodules import assets
from metrics.fid import (
    FrechetInceptionDistance,
    KernelInceptionDistance,
    KidSettings,
    frechet_distance,
    kernel_distances,
)
from metrics.fvd import FrechetVideoDistance, FvdSettings, draw_windows
from metrics.judges.inception import INCEPTION_FILE, FIDInception, fid_network, load_fid_inception, load_i3d

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class SmallNetwork(nn.Module):
    """20 features of a picture or window: sensitive to noise, and to a forgotten evaluation mode."""

    num_features = 20

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(20, 3, 3, 3, generator=generator)
        self.register_buffer("weight", weight - 0.9 * weight.mean(dim=(2, 3), keepdim=True))
        self.norm = nn.BatchNorm1d(20).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        frames = images.flatten(1, -4) if images.ndim == 5 else images[:, None]  # (N, T, 3, H, W)
        maps = F.conv2d(frames.flatten(0, 1).float() / 255, self.weight).relu()
        return self.norm(maps.mean(dim=(2, 3)).unflatten(0, frames.shape[:2]).mean(dim=1))


def pictures(count: int, seed: int, noise: float = 0.0) -> Tensor:
    """Smooth random pictures ``(N, 3, 24, 24)`` uint8, with white noise of a share of the range on top."""
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator), size=24, mode="bilinear")
    grain = noise * torch.randn(smooth.shape, generator=generator)
    return ((smooth + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def filled(metric: Any, real: Tensor, generated: Tensor, batch: int = 1000) -> Any:
    for images, is_real in ((real, True), (generated, False)):
        for part in images.split(batch):
            metric.update(part, real=is_real)
    return metric


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.double().mean(dim=0), features.double().T.cov()


def distance_by_scipy(first: np.ndarray, second: np.ndarray) -> float:
    """The distance of two sets of features ``(N, D)`` as its definition says, by a general matrix root."""
    root = linalg.sqrtm(np.cov(first, rowvar=False) @ np.cov(second, rowvar=False)).real
    spread = np.trace(np.cov(first, rowvar=False) + np.cov(second, rowvar=False) - 2 * root)
    return float(((first.mean(0) - second.mean(0)) ** 2).sum() + spread)


def test_distance_is_that_of_a_matrix_root():
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(2, 40, 40))
    first, second = (generator.normal(size=(400, 40)) @ mix + shift for shift, mix in enumerate(mixing))
    parts = [*mean_and_covariance(torch.tensor(first)), *mean_and_covariance(torch.tensor(second))]
    assert float(frechet_distance(*parts)) == pytest.approx(distance_by_scipy(first, second), rel=1e-10)
    mean, covariance = parts[:2]
    for shift in (0, 3):
        moved = frechet_distance(mean, covariance, mean + shift, covariance)
        assert float(moved) == pytest.approx(40 * shift**2, abs=1e-9)


def test_fewer_samples_than_features_leave_no_rounding():
    """The nuclear norm of the centred features' product is the trace, without any root of a matrix."""
    generator = torch.Generator().manual_seed(0)
    decay = torch.logspace(0, -3, 300, dtype=torch.float64)
    first, second = (
        (torch.randn(n, 300, generator=generator, dtype=torch.float64) * decay).relu() for n in (12, 30)
    )
    (mean1, covariance1), (mean2, covariance2) = mean_and_covariance(first), mean_and_covariance(second)
    product = (first - mean1) @ (second - mean2).T / np.sqrt(11 * 29)
    overlap = torch.linalg.svdvals(product).sum()
    expected = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * overlap
    found = frechet_distance(mean1, covariance1, mean2, covariance2, rank=11)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    assert float(frechet_distance(mean1, covariance1, mean2, covariance2)) != float(found)


@pytest.fixture
def torch_home(tmp_path: Path) -> Iterator[Path]:
    """A cache of torch hub that is emptied after the test: the weights are large."""
    yield tmp_path
    shutil.rmtree(tmp_path / "hub", ignore_errors=True)


def calibrated_inception_file(folder: Path, frames: Tensor) -> Path:
    """Random weights where torch hub looks for the published ones, BatchNorm fitted to the frames.

    With untouched statistics the features would hardly differ between pictures.
    """
    torch.manual_seed(0)
    network = fid_network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # take the statistics of the one pass
    with torch.no_grad():
        FIDInception(network).train()(frames)
    path = folder / "hub" / "checkpoints" / INCEPTION_FILE
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return path


def test_features_are_those_of_pytorch_fid(torch_home, monkeypatch):
    from pytorch_fid.inception import InceptionV3

    images = pictures(3, 0)
    weights = calibrated_inception_file(torch_home, images)
    before = torch.get_rng_state()
    ours = load_fid_inception(weights)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    theirs = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    with torch.no_grad():
        expected = theirs(images.float() / 255)[0].flatten(1)
        found = ours(images)
    assert found.std() > 0.01
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_value_is_that_of_the_pytorch_fid_command(shared, torch_home, monkeypatch):
    """On frames of two real clips; both sides with the same random weights."""
    from PIL import Image
    from pytorch_fid.fid_score import calculate_fid_given_paths

    from datamodules.media.video import VideoReader

    sides = []
    for name in ("hdtf_wda_katiehill", "hdtf_wda_edmarkey"):
        reader = VideoReader(shared / f"data/clips/{name}.mp4")
        chosen = torch.from_numpy(reader.get(np.linspace(0, len(reader) - 1, 24).astype(int)))
        small = F.interpolate(chosen.permute(0, 3, 1, 2).float(), size=(96, 128), mode="area")
        sides.append(small.round().to(torch.uint8))
        (torch_home / name).mkdir()
        for index, image in enumerate(sides[-1].permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(torch_home / name / f"{index:03d}.png")
    weights = calibrated_inception_file(torch_home, torch.cat([side[::4] for side in sides]))
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    folders = [str(torch_home / name) for name in ("hdtf_wda_katiehill", "hdtf_wda_edmarkey")]
    reference = calculate_fid_given_paths(folders, 50, "cpu", 2048, num_workers=0)
    metric = filled(FrechetInceptionDistance(load_fid_inception(weights)), *sides, batch=7)
    assert reference > 1
    assert float(metric.compute()) == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("windows", [False, True])
def test_streamed_sums_give_the_distance_of_the_whole(windows, device):
    """Of pictures, and of windows of frames."""
    sides = [pictures(640 if windows else 120, seed, noise).to(device) for seed, noise in ((0, 0), (1, 0.1))]
    if windows:
        sides = [side.unflatten(0, (40, 16)) for side in sides]
    network = SmallNetwork().to(device).eval()
    expected = distance_by_scipy(*(network(side).cpu().double().numpy() for side in sides))
    for batch in (1, 17, 1000):
        metric = (FrechetVideoDistance if windows else FrechetInceptionDistance)(network).to(device)
        found = filled(metric, *sides, batch).compute()
        assert float(found) == pytest.approx(expected, rel=1e-6)
        assert found.device.type == device


def test_training_around_it_changes_nothing():
    """Train mode, mixed precision, inference mode; features given instead of pictures."""
    real, generated = pictures(60, 0), pictures(60, 1, noise=0.1)
    metric = filled(FrechetInceptionDistance(SmallNetwork()), real, generated)
    value = metric.compute()
    metric.reset()
    metric.train()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        filled(metric, real, generated)
        assert metric.compute() == value
    features = [metric.inception(side) for side in (real, generated)]
    other = filled(FrechetInceptionDistance(SmallNetwork()), *features)
    assert float(other.compute()) == pytest.approx(float(value), rel=1e-12)


@pytest.mark.parametrize("build", [FrechetInceptionDistance, KernelInceptionDistance])
def test_more_noise_is_further_away(build):
    real = pictures(200, 0)
    sides = (pictures(200, 1, noise) for noise in (0, 0.05, 0.1, 0.2, 0.4))
    values = [float(filled(build(SmallNetwork()), real, side).compute()) for side in sides]
    assert values == sorted(values)
    assert values[-1] > 10 * abs(values[0])


def test_kernel_distance_agrees_with_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(50, 30, generator=generator).double() + shift for shift in (0, 0.5))
    (value,) = kernel_distances(first, second)
    assert float(value) == pytest.approx(float(poly_mmd(first, second)), rel=1e-12)
    drawn = kernel_distances(first, second, KidSettings(4, 20))
    assert len(set(drawn.tolist())) == 4
    assert torch.equal(drawn, kernel_distances(first, second, KidSettings(4, 20)))
    assert not torch.equal(drawn, kernel_distances(first, second, KidSettings(4, 20, seed=1)))


def test_kernel_distance_is_unbiased():
    """Equal distributions: 0 on average and below it half of the time, also with few pictures."""
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(2, 15, 8, generator=generator).unbind() for _ in range(400))
    values = torch.cat([kernel_distances(*draw) for draw in draws])
    assert abs(values.mean()) < 3 * values.std() / 20
    assert 0.3 < (values < 0).double().mean() < 0.8
    assert values.mean() < 0.1 * kernel_distances(torch.zeros(9, 8), torch.ones(9, 8)).mean()


class StandIn(nn.Module):
    """A network that is called like the TorchScript file of I3D."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * 16, 400))

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if resize:
            x = F.interpolate(x, size=[16, 224, 224], mode="trilinear", align_corners=False)
        if rescale:
            x = x * 2 / 255 - 1
        x = x.square().mean([3, 4]).flatten(1) @ self.weight
        return x if return_features else x.softmax(dim=1)


def test_video_distance_calls_the_network_as_styleganv_does(tmp_path):
    torch.manual_seed(0)
    stand_in = StandIn()
    torch.jit.script(stand_in).save(str(tmp_path / "i3d.pt"))
    sides = [pictures(16 * n, n, noise).unflatten(0, (n, 16)) for n, noise in ((9, 0), (8, 0.2))]
    metric = filled(FrechetVideoDistance(load_i3d(tmp_path / "i3d.pt")), *sides, batch=3)
    with torch.no_grad():
        expected = [stand_in(side.permute(0, 2, 1, 3, 4).float(), True, True, True) for side in sides]
    moments = [part for features in expected for part in mean_and_covariance(features)]
    assert float(metric.compute()) == pytest.approx(float(frechet_distance(*moments, rank=7)), rel=1e-6)
    with pytest.raises(ValueError, match=r"\(N, 16, 3, H, W\).*got \(2, 15, 3, 24, 24\)"):
        metric.update(sides[0][:2, :15], real=True)


def test_windows_are_drawn_by_seed():
    frames = [16, 10, 20, 0, 100]
    every = draw_windows(frames, FvdSettings(10**6))
    assert len(every) == len(set(every)) == 1 + 5 + 85
    assert all(start + 16 <= frames[clip] for clip, start in every)
    drawn = draw_windows(frames, FvdSettings(30, seed=1))
    assert len(set(drawn)) == 30
    assert set(drawn) < set(every)
    assert drawn == sorted(drawn) == draw_windows(frames, FvdSettings(30, seed=1))
    assert drawn != draw_windows(frames, FvdSettings(30, seed=2))
    for none in ([15, 3], []):
        with pytest.raises(ValueError, match="no clip has the 16 frames"):
            draw_windows(none)


@pytest.mark.usefixtures("no_assets")
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (FrechetInceptionDistance, "pt_inception"),
        (KernelInceptionDistance, "pt_inception"),
        (FrechetVideoDistance, "i3d_torchscript"),
    ],
)
def test_missing_weights_are_told(build, name):
    with pytest.raises(assets.MissingAssetError, match=f"{name}.*ifmdm assets fetch"):
        build()
