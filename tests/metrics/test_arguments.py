"""A wrong argument is refused in one line and leaves no trace; right ones of every float type count alike."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance
from metrics.fvd import FrechetVideoDistance
from metrics.lpips import LPIPS
from torch import Tensor, nn
from torchmetrics import Metric

from metrics.arguments import OVERSHOOT, side_of
from metrics.distributions import (
    MOTION_DIM,
    BlinkIntervalDistance,
    HeadSpectrumDistance,
    HeadVelocityDistance,
    MotionFrechetDistance,
)
from metrics.identity import AED, CSIM
from metrics.judges.syncnet import SyncNet
from metrics.landmarks import AKD, LMD, MouthLMD
from metrics.motion import BlinkRate, HeadMotion, Jitter, MouthMotion
from metrics.reconstruction import L1, PSNR, SSIM, RegionErrorRemoved, as_uint8
from metrics.sync import SyncNetScore


class Features(nn.Module):
    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(0, -4).float().mean(dim=(2, 3)).unflatten(0, images.shape[:-3])
        values = values.mean(dim=1) if images.ndim == 5 else values
        return torch.cat([values, values.square()], dim=1)


class Difference(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).square().mean(dim=(1, 2, 3), keepdim=True)


class Embedder:
    name, sha256 = "colours", "0" * 64

    def embed(self, frames: Tensor, landmarks: np.ndarray | None = None) -> np.ndarray:
        colours = as_uint8(frames).float().mean(dim=(2, 3)).numpy()
        return colours / np.linalg.norm(colours, axis=1, keepdims=True)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


PICTURES, OTHERS = images(4, 3, 16, 18), images(4, 3, 16, 18, seed=1)
BOXES = torch.tensor([[0.0, 0.5, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]]).expand(4, 3, 4)
FLOATS = PICTURES.float() / 127.5 - 1
NAN = FLOATS.index_put((torch.tensor(0),), torch.tensor(torch.nan))
WRONG_PICTURES = {
    "int64": PICTURES.long(),
    "bool": PICTURES > 9,
    "0 to 255": PICTURES.float(),
    "NaN": NAN,
    "infinite": FLOATS / 0,
    "HWC": PICTURES.permute(0, 2, 3, 1),
    "one picture": PICTURES[0],
    "one colour": PICTURES[:, :1],
    "no tensor": PICTURES.numpy(),
}
PAIRED: dict[str, Callable[[], Metric]] = {
    "psnr": PSNR,
    "ssim": SSIM,
    "l1": L1,
    "lpips": lambda: LPIPS(Difference()),
    "aed": lambda: AED(Embedder()),
}
SIDED: dict[str, Callable[[], Metric]] = {
    "fid": lambda: FrechetInceptionDistance(Features()),
    "kid": lambda: KernelInceptionDistance(Features()),
    "fvd": lambda: FrechetVideoDistance(Features()),
}


def states(metric: Metric) -> dict[str, Any]:
    return {
        name: [part.clone() for part in value] if isinstance(value, list) else value.clone()
        for name, value in metric.metric_state.items()
    }


def assert_refused(
    metric: Metric, *arguments: Any, told: str = "must be|against|pixels", **named: Any
) -> None:
    """The arguments raise one line, and the states stay as they were."""
    before = states(metric)
    with pytest.raises(ValueError, match=told) as raised:
        metric.update(*arguments, **named)
    assert "\n" not in str(raised.value)
    after = states(metric)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=0, rtol=0)


def syncnet() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(0.05, 64).eval()


@pytest.mark.parametrize("name", PAIRED)
def test_wrong_pairs(name):
    metric = PAIRED[name]()
    metric.update(PICTURES, OTHERS)
    for wrong in WRONG_PICTURES.values():
        assert_refused(metric, wrong, PICTURES)
        assert_refused(metric, PICTURES, wrong)
        assert_refused(metric, wrong, wrong)
    assert_refused(metric, PICTURES, OTHERS[:1])
    if name != "aed":  # whose faces may have any size
        assert_refused(metric, PICTURES, OTHERS[..., :1])
    if name == "ssim":
        assert_refused(metric, PICTURES[..., :6], OTHERS[..., :6])


@pytest.mark.parametrize("name", SIDED)
def test_wrong_sides(name):
    metric, frames = SIDED[name](), PICTURES
    if name == "fvd":
        frames = images(2, 16, 3, 8, 9)
    metric.update(frames, real=True)
    metric.update(frames, real=False)
    for wrong in WRONG_PICTURES.values():
        if name == "fvd" and isinstance(wrong, Tensor):
            wrong = wrong.repeat_interleave(8, 0).unflatten(0, (2, -1))
        assert_refused(metric, wrong, real=True)
    for side in ("fake", "real", 1, None):
        assert_refused(metric, frames, side, told="real must be True or False")
    for features in (torch.ones(2, 7), torch.ones(2, 6).long(), torch.full((2, 6), torch.nan)):
        assert_refused(metric, features, real=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*PAIRED, *SIDED, "csim"])
def test_floats_of_every_type_count_as_the_bytes_that_they_stand_for(name, dtype):
    """All 256 levels; what overshoots a little is clamped."""
    frames, others = images(2, 16, 3, 16, 16), images(2, 16, 3, 16, 16, seed=1)
    if name != "fvd":
        frames, others = frames.flatten(0, 1), others.flatten(0, 1)
    assert len(frames.unique()) == 256
    values = []
    for change in (lambda x: x, lambda x: (x.double() / 127.5 - 1).to(dtype)):
        metric = CSIM(Embedder()) if name == "csim" else {**PAIRED, **SIDED}[name]()
        if name in SIDED:
            metric.update(change(frames), real=True)
            metric.update(change(others), real=False)
        else:
            metric.update(change(frames)[0] if name == "csim" else change(frames), change(others))
        values.append(metric.compute())
    assert values[0] == values[1]
    beyond = torch.tensor([-1 - OVERSHOOT, -1, 1, 1 + OVERSHOOT], dtype=dtype).expand(1, 3, 2, 4)
    assert as_uint8(beyond)[0, 0, 0].tolist() == [0, 0, 255, 255]


def test_no_pictures_are_no_mistake():
    for build in PAIRED.values():
        metric = build()
        metric.update(PICTURES, OTHERS)
        value = metric.compute()
        if not isinstance(metric, AED):
            metric.update(PICTURES[:0], FLOATS[:0])
        assert metric.compute() == value


def test_wrong_regions():
    metric = RegionErrorRemoved()
    metric.update(PICTURES, OTHERS, PICTURES, BOXES)
    assert_refused(metric, PICTURES, OTHERS[:1], PICTURES, BOXES)
    assert_refused(metric, PICTURES, PICTURES.float(), PICTURES, BOXES)
    for boxes in (BOXES[:1], BOXES[:, :2], BOXES * 16):
        assert_refused(metric, PICTURES, OTHERS, PICTURES, boxes)


def test_wrong_identities():
    metric = CSIM(Embedder())
    metric.update(PICTURES[0], OTHERS)
    for name, wrong in WRONG_PICTURES.items():
        assert_refused(metric, PICTURES[0], wrong)
        if name != "one picture":
            assert_refused(metric, wrong[0], PICTURES)
    assert_refused(metric, PICTURES, PICTURES)


def test_wrong_landmarks():
    points = np.random.default_rng(0).uniform(0, 99, (5, 478, 3))
    for metric, size in ((LMD(), ()), (MouthLMD(), ()), (AKD(), (256, 256))):
        metric.update(points, points + 1, *size)
        for wrong in (points[:1], points[:, :68], points[..., :2], points[0], torch.from_numpy(points)):
            assert_refused(metric, points, wrong, *size)
            assert_refused(metric, wrong, points, *size)
    assert_refused(AKD(), points, points, 256, 0)


def test_wrong_curves():
    three, one = torch.randn(60, 3), torch.rand(60)
    for metric, right, wrong in (
        (HeadMotion(), three, one),
        (Jitter(), three, one),
        (MouthMotion(), one, three),
        (BlinkRate(), one, one[:, None]),
    ):
        metric.update(right)
        value = metric.compute()
        metric.update(right.double())
        assert metric.compute() == pytest.approx(value)
        assert_refused(metric, wrong)
        assert_refused(metric, right.long())
        metric.update(right.bfloat16())


def test_wrong_motion():
    features = torch.randn(40, MOTION_DIM)
    metric = MotionFrechetDistance()
    metric.update(features, real=True)
    for wrong in (features[:, :1], features[:, 1:], features[0], features / 0):
        assert_refused(metric, wrong, real=True)
    assert_refused(metric, features, "fake", told="real must be")
    for metric, rows, wrong in (
        (HeadVelocityDistance(), torch.rand(9), torch.rand(9, 3)),
        (BlinkIntervalDistance(), torch.rand(9), torch.rand(9, 3)),
        (HeadSpectrumDistance(), torch.rand(2, 5), torch.rand(10)),
    ):
        metric.update(rows, real=True)
        assert_refused(metric, wrong, real=True)
        assert_refused(metric, rows + torch.nan, real=True)
        assert_refused(metric, rows, real="fake", told="real must be")


def test_wrong_clips_for_lip_sync():
    frames, sound = images(30, 3, 64, 64), torch.randn(30 * 640).clamp(-1, 1)
    metric = SyncNetScore(syncnet(), minimum=10)
    metric.update(frames, sound)
    for wrong in (
        sound[None],
        sound[:, None],
        (sound * 32767).short(),
        sound * 32767,
        sound / 0,
        sound.numpy(),
    ):
        assert_refused(metric, frames, wrong, told=r"sound must be \(S,\) float in \[-1, 1\]; got")
    for wrong in (frames.permute(0, 2, 3, 1), frames.float(), frames.long(), frames[0]):
        assert_refused(metric, wrong, sound, told="images must be")
    metric.update(frames.half() / 127.5 - 1, sound)
    assert metric.distances[0] == metric.distances[1]


def test_a_side_is_true_or_false():
    assert [side_of(real) for real in (True, False, np.bool_(True), np.bool_(False))] == [0, 1, 0, 1]


def test_floats_that_look_like_another_range_are_told():
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=r"taken as \[-1, 1\], not as \[0, 1\]"):
        as_uint8(pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_uint8(2 * pictures - 1)
        as_uint8(torch.full((1, 3, 8, 8), 0.5))  # a plain picture may be of any grey


@pytest.mark.parametrize("feature", ["inception", nn.Linear(3, 3)])
def test_a_feature_network_says_its_width(feature):
    with pytest.raises(ValueError, match="feature must be a network with an attribute num_features; got"):
        FrechetInceptionDistance(feature)
