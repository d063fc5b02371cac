"""Metrics side by side in a collection give what each gives alone."""

import numpy as np
import pytest
import torch
from torchmetrics import Metric, MetricCollection

from metrics.landmarks import LMD, MouthLMD
from metrics.reconstruction import L1, PSNR, SSIM


def in_a_collection_as_alone(metrics: list[type[Metric]], pairs: list[tuple]) -> None:
    together, alone = MetricCollection([metric() for metric in metrics]), [metric() for metric in metrics]
    for pair in pairs:
        together.update(*pair)
        for metric in alone:
            metric.update(*pair)
    expected = {type(metric).__name__: float(metric.compute()) for metric in alone}
    assert {name: float(value) for name, value in together.compute().items()} == pytest.approx(expected)


def test_pictures_that_first_equal_the_real_ones_merge_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randint(0, 256, (2, 2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    in_a_collection_as_alone([L1, PSNR, SSIM], [(one, one), (one, other)])


def test_landmarks_that_first_equal_the_real_ones_merge_nothing() -> None:
    real, made = np.random.default_rng(0).uniform(50, 200, (2, 20, 478, 3))
    in_a_collection_as_alone([LMD, MouthLMD], [(real, real), (made, real)])
