"""Every metric: batches, processes, collections; a wrong argument is refused in one line and leaves no trace."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from metrics.base import ClipMean
from metrics.checks import OVERSHOOT, as_uint8
from metrics.distributions import (
    BlinkIntervalDistance,
    HeadSpectrumDistance,
    HeadVelocityDistance,
    MotionFeatureSettings,
    MotionFrechetDistance,
)
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance, KidSettings
from metrics.fvd import FrechetVideoDistance
from metrics.lpips import LPIPS
from metrics.motion import head_motion
from metrics.reconstruction import L1, PSNR, SSIM


class Features(nn.Module):
    """Six features of a picture or window."""

    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(0, -4).float().mean(dim=(2, 3)).unflatten(0, images.shape[:-3])
        values = values.mean(dim=1) if images.ndim == 5 else values
        return torch.cat([values, values.square() / 100], dim=1)


class Difference(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).square().mean(dim=(1, 2, 3), keepdim=True)


Builds = dict[str, Callable[[], Metric]]
PAIRED: Builds = {"psnr": PSNR, "ssim": SSIM, "l1": L1, "lpips": lambda: LPIPS(Difference())}
SIDED: Builds = {
    "fid": lambda: FrechetInceptionDistance(Features()),
    "kid": lambda: KernelInceptionDistance(Features(), KidSettings(subsets=5, size=30)),
    "fvd": lambda: FrechetVideoDistance(Features()),
}
WIDTH = MotionFeatureSettings().width
ROWS: dict[str, tuple[Callable[[], Metric], tuple[int, ...]]] = {
    "motion": (MotionFrechetDistance, (40, WIDTH)),
    "velocity": (HeadVelocityDistance, (12,)),
    "blinks": (BlinkIntervalDistance, (12,)),
    "spectrum": (HeadSpectrumDistance, (3, 5)),
}
CLIPS: Builds = {
    name: lambda median=name == "median": ClipMean(head_motion, median) for name in ("mean", "median")
}


def updates(name: str, pictures: Callable[..., Tensor]) -> list[tuple[Any, ...]]:
    """Updates of a metric: the first with both sides equal where they are compared."""
    if name in PAIRED:
        size = (2, 3, 16, 18)
        return [(pictures(*size, seed=seed), pictures(*size, seed=max(1, seed))) for seed in (1, 2, 0, 4)]
    if name in CLIPS:
        generator = np.random.default_rng(0)
        curves = [generator.normal(size=(50, 3)) * scale for scale in (1, 4, 2, 9, 3)]
        return [(curve,) for curve in (*curves, np.full((9, 3), np.nan))]
    if name in ROWS:
        generator = torch.Generator().manual_seed(0)
        rows = [torch.rand(ROWS[name][1], generator=generator) for _ in range(6)]
    else:
        shape = (8, 16, 3, 8, 9) if name == "fvd" else (20, 3, 8, 9)
        rows = [pictures(*shape, seed=seed) // (1 + seed % 2) for seed in range(6)]
    return [(one, {"real": place % 2 == 0}) for place, one in enumerate(rows)]


ALL = {**PAIRED, **SIDED, **{name: build for name, (build, _) in ROWS.items()}, **CLIPS}


@pytest.mark.parametrize("name", ALL)
def test_batches_processes_and_collections_give_what_one_gives(name, check_metric, noise_pictures):
    check_metric(ALL[name], updates(name, noise_pictures), alike=2 if name in (*SIDED, *ROWS) else 1)


WRONG = {
    "int64": lambda x: x.long(),
    "bool": lambda x: x > 9,
    "0 to 255": lambda x: x.float(),
    "NaN": lambda x: (x.float() / 127.5 - 1).index_put((torch.tensor(0),), torch.tensor(torch.nan)),
    "infinite": lambda x: x.float() / 0,
    "HWC": lambda x: x.movedim(-3, -1),
    "one picture": lambda x: x[0],
    "one colour": lambda x: x[..., :1, :, :],
    "no tensor": lambda x: x.numpy(),
}
"""What is wrong with pictures."""


@pytest.mark.parametrize("name", PAIRED)
def test_wrong_pairs(name, assert_refused, noise_pictures):
    metric, right, other = PAIRED[name](), noise_pictures(4, 3, 16, 18), noise_pictures(4, 3, 16, 18, seed=1)
    metric.update(right, other)
    for change in WRONG.values():
        assert_refused(metric, change(right), right)
        assert_refused(metric, right, change(right))
        assert_refused(metric, change(right), change(right))
    assert_refused(metric, right, other[:1])
    assert_refused(metric, right, other[..., :1])
    if name == "ssim":
        assert_refused(metric, right[..., :6], other[..., :6])
    value = metric.compute()
    metric.update(right[:0], right[:0].float())  # no pictures are no mistake
    assert metric.compute() == value


@pytest.mark.parametrize("name", SIDED)
def test_wrong_sides(name, assert_refused, noise_pictures):
    metric = SIDED[name]()
    frames = noise_pictures(2, 16, 3, 8, 9) if name == "fvd" else noise_pictures(4, 3, 16, 18)
    metric.update(frames, real=True)
    metric.update(frames, real=np.bool_(False))
    for change in WRONG.values():
        assert_refused(metric, change(frames), real=True)
    for side in ("fake", "real", 1, None):
        assert_refused(metric, frames, side, told="real must be True or False")
    for features in (torch.ones(2, 7), torch.ones(2, 6).long(), torch.full((2, 6), torch.nan)):
        assert_refused(metric, features, real=False)
    alone = SIDED[name]()
    alone.update(frames, real=True)
    assert torch.isnan(alone.compute())
    for network in ("inception", nn.Linear(3, 3)):
        with pytest.raises(ValueError, match="feature must be a network with an attribute num_features; got"):
            type(metric)(network)


@pytest.mark.parametrize("name", ROWS)
def test_wrong_rows(name, assert_refused):
    build, shape = ROWS[name]
    metric, rows = build(), torch.rand(shape)
    metric.update(rows, real=True)
    wrong = [rows + torch.nan, rows.long(), rows[0]]
    wrong += [rows[:, 1:], rows / 0] if rows.ndim > 1 else [rows.expand(3, -1).T]
    for one in wrong:
        assert_refused(metric, one, real=True)
    assert_refused(metric, rows, "fake", told="real must be")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*PAIRED, *SIDED])
def test_floats_of_every_type_count_as_the_bytes_that_they_stand_for(name, dtype, noise_pictures):
    """All 256 levels; what overshoots a little is clamped."""
    sides = [noise_pictures(2, 16, 3, 16, 16, seed=seed) for seed in (0, 1)]
    sides = sides if name == "fvd" else [side.flatten(0, 1) for side in sides]
    assert len(sides[0].unique()) == 256
    values = []
    for change in (lambda x: x, lambda x: (x.double() / 127.5 - 1).to(dtype)):
        metric, (real, made) = ALL[name](), map(change, sides)
        if name in SIDED:
            metric.update(real, real=True)
            metric.update(made, real=False)
        else:
            metric.update(made, real)
        values.append(metric.compute())
    assert values[0] == values[1]
    beyond = torch.tensor([-1 - OVERSHOOT, -1, 1, 1 + OVERSHOOT], dtype=dtype).expand(1, 3, 2, 4)
    assert as_uint8(beyond)[0, 0, 0].tolist() == [0, 0, 255, 255]


def test_floats_that_look_like_another_range_are_told():
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=r"taken as \[-1, 1\], not as \[0, 1\]"):
        as_uint8(pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_uint8(2 * pictures - 1)
        as_uint8(torch.full((1, 3, 8, 8), 0.5))  # a plain picture may be of any grey


def test_clips_count_alike_and_those_without_a_value_do_not():
    metric = ClipMean(lambda curve, scale: scale * curve, scale=2)
    metric.update(np.array([1.0, np.nan, 3.0]))  # mean over its known frames
    metric.update(np.full(90, 5.0))
    metric.update(np.full(4, np.nan))
    assert float(metric.compute()) == pytest.approx(2 * 3.5)
    lag = ClipMean(median=True)
    for value in (1.0, 2.0, 30.0, 4.0, float("inf")):
        lag.update(value)
    assert float(lag.compute()) == 3
    assert ClipMean(median=True).compute().isnan()
