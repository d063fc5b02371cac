"""PSNR, SSIM and L1 against scikit-image; errors in regions."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as reference_ssim
from torch import Tensor

from metrics.reconstruction import L1, PSNR, SSIM, region_errors, structural_similarity


def noisy_pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (4, 3, 24, 32), generator=generator, dtype=torch.uint8)
    noise = torch.randint(-30, 31, target.shape, generator=generator)
    return (target.int() + noise).clamp(0, 255).to(torch.uint8), target


def ssim_of_each(predicted: Tensor, target: Tensor) -> np.ndarray:
    pairs = zip(target.numpy(), predicted.numpy(), strict=True)
    return np.array([reference_ssim(a, b, channel_axis=0) for a, b in pairs])


@pytest.mark.parametrize("source", ["noise", "clip"])
def test_agree_with_scikit_image(source, request):
    predicted, target = request.getfixturevalue("real_pairs") if source == "clip" else noisy_pair()
    ssim, psnr, l1 = SSIM(), PSNR(), L1()
    for metric in (ssim, psnr, l1):
        for part in (slice(0, 1), slice(1, 9)):  # uneven batches
            metric.update(predicted[part], target[part])
    # One picture of all frames: the error is pooled before the logarithm.
    whole = peak_signal_noise_ratio(target.numpy(), predicted.numpy(), data_range=255)
    mean = ssim_of_each(predicted, target).mean()
    print(f"PSNR {whole:.4f}, difference {abs(float(psnr.compute()) - whole):.1e}")
    print(f"SSIM {mean:.6f}, difference {abs(float(ssim.compute()) - mean):.1e}")
    assert float(ssim.compute()) == pytest.approx(mean, abs=1e-9)
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
    values = structural_similarity(predicted, target)
    assert values.numpy() == pytest.approx(ssim_of_each(predicted, target), abs=1e-12)


BOXES = torch.tensor([[0, 0.5, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]]).expand(2, 3, 4)


def test_region_errors_count_only_their_boxes():
    target = torch.full((2, 3, 20, 20), 100, dtype=torch.uint8)
    still = target + 10
    still[:, :, 10:] += 10  # mouth half: error 20, eye half: error 10
    pixels = 2 * 3 * 20 * 10
    assert region_errors(still, target, BOXES).tolist() == [400 * pixels, 100 * pixels]
    assert region_errors(still, target, torch.zeros(2, 3, 4)).tolist() == [0, 0]
    for wrong in (BOXES[:1], BOXES[:, :2], BOXES * 16):
        with pytest.raises(ValueError, match="boxes must be .* not pixels"):
            region_errors(still, target, wrong)
    with pytest.raises(ValueError, match="images must be"):
        region_errors(still, target.float(), BOXES)
