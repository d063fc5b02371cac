"""Metrics side by side in a collection give what each gives alone."""

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from metrics.landmarks import LMD, MouthLMD
from metrics.reconstruction import L1, PSNR, SSIM


def test_pictures_that_first_equal_the_real_ones_merge_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randint(0, 256, (2, 2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    alone = {"L1": L1(), "PSNR": PSNR(), "SSIM": SSIM()}
    together = MetricCollection([L1(), PSNR(), SSIM()])
    for pair in ((one, one), (one, other)):
        together.update(*pair)
        for metric in alone.values():
            metric.update(*pair)
    assert {name: float(value) for name, value in together.compute().items()} == pytest.approx(
        {name: float(metric.compute()) for name, metric in alone.items()}
    )


def test_landmarks_that_first_equal_the_real_ones_merge_nothing() -> None:
    real, made = np.random.default_rng(0).uniform(50, 200, (2, 20, 478, 3))
    alone = {"LMD": LMD(), "MouthLMD": MouthLMD()}
    together = MetricCollection([LMD(), MouthLMD()])
    for pair in ((real, real), (made, real)):
        together.update(*pair)
        for metric in alone.values():
            metric.update(*pair)
    assert {name: float(value) for name, value in together.compute().items()} == pytest.approx(
        {name: float(metric.compute()) for name, metric in alone.items()}
    )
