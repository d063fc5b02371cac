import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from metrics.reconstruction import L1, PSNR, SSIM, RegionErrorRemoved, as_uint8
from metrics.reconstruction import structural_similarity as ssim_of_each


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (4, 3, 24, 32), generator=generator, dtype=torch.uint8)
    noise = torch.randint(-30, 31, target.shape, generator=generator)
    return (target.int() + noise).clamp(0, 255).to(torch.uint8), target


def _hwc(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def test_agree_with_scikit_image(pair):
    predicted, target = pair
    ssim, psnr, l1 = SSIM(), PSNR(), L1()
    for metric in (ssim, psnr, l1):
        for part in (slice(0, 1), slice(1, 4)):  # uneven batches
            metric.update(predicted[part], target[part])
    reference = np.mean(
        [
            structural_similarity(_hwc(a), _hwc(b), channel_axis=-1)
            for a, b in zip(predicted, target, strict=True)
        ]
    )
    assert float(ssim.compute()) == pytest.approx(reference, abs=1e-9)
    # One picture of all frames: the error is pooled before the logarithm.
    whole = peak_signal_noise_ratio(target.numpy(), predicted.numpy(), data_range=255)
    assert float(psnr.compute()) == pytest.approx(whole, abs=1e-6)
    expected = np.abs(predicted.numpy().astype(float) - target.numpy()).mean() / 255
    assert float(l1.compute()) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (2, 3, 8, 31), (7, 3, 65, 130), (2, 3, 300, 310)])
def test_ssim_of_any_size_is_scikit_images(shape):
    """Also where the pictures are gone through in parts, and for flat ones, where variances vanish."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    predicted = (target * 0.5 + 120 * torch.rand(shape, generator=generator)).to(torch.uint8)
    target[0], predicted[0] = 255, 254
    values = ssim_of_each(predicted, target)
    expected = [
        structural_similarity(_hwc(a), _hwc(b), channel_axis=-1)
        for a, b in zip(predicted, target, strict=True)
    ]
    assert values.numpy() == pytest.approx(np.array(expected), abs=1e-12)


def test_floats_are_rounded_to_eight_bits(pair):
    predicted, target = pair
    back = as_uint8(predicted.float() / 127.5 - 1)
    assert torch.equal(back, predicted)
    psnr = PSNR()
    psnr.update(predicted.float() / 127.5 - 1, target)
    other = PSNR()
    other.update(predicted, target)
    assert psnr.compute() == other.compute()
    with pytest.raises(ValueError, match="shape"):
        psnr.update(predicted, target[:, :, :-1])


def test_region_share_counts_only_its_box():
    target = torch.full((2, 3, 20, 20), 100, dtype=torch.uint8)
    still, predicted = target + 10, target + 10
    still[:, :, 10:, :] += 10  # mouth half: error 20, eye half: error 10
    predicted = predicted.clone()  # 10 everywhere
    boxes = torch.tensor([[0, 0.5, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]]).expand(2, 3, 4)
    metric = RegionErrorRemoved()
    metric.update(predicted, still, target, boxes)
    shares = metric.compute()
    assert float(shares["mouth"]) == pytest.approx(1 - 100 / 400)
    assert float(shares["eyes"]) == pytest.approx(0)


def test_no_boxes_no_share():
    images = torch.zeros((1, 3, 8, 8), dtype=torch.uint8)
    metric = RegionErrorRemoved()
    metric.update(images, images, images, torch.zeros(1, 3, 4))
    assert torch.isnan(metric.compute()["mouth"])
