"""Distances over all clips at once against the metrics that know no identities, and against leaving clips out by hand."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.detections import Detections
from metrics.evaluation.feature_pools import FrechetPool, KernelPool, PoolSettings, split_halves
from metrics.evaluation.intervals import cluster_jackknife
from metrics.evaluation.judges import Judges
from metrics.evaluation.picture_distances import PictureDistances
from metrics.evaluation.protocol import get_protocol
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance, KidSettings

WIDTH = 12
WHO = ("anna", "ben", "anna", "cleo", "dora")
DEFAULT = KidSettings()
EVERYTHING, SMALL = KidSettings(subsets=1, size=10_000), KidSettings(subsets=20, size=40, seed=3)
HERE = Path()
Clips = list[tuple[str, Tensor, Tensor]]


class Thumbnail(nn.Module):
    """Means of 2 x 2 fields of a picture or window: 12 features."""

    num_features = WIDTH

    def forward(self, images: Tensor) -> Tensor:
        images = images if images.ndim == 5 else images[:, None]
        pooled = nn.functional.adaptive_avg_pool2d(images.flatten(0, 1).float(), 2).flatten(1)
        return pooled.unflatten(0, images.shape[:2]).mean(dim=1)


def features(people: tuple[str, ...] = WHO, frames: int = 30) -> Clips:
    """Who, real and generated features of each clip: everybody looks another way, and generated ones are off."""
    generator = torch.Generator().manual_seed(0)
    looks = {name: torch.randn(WIDTH, generator=generator) for name in sorted(set(people))}
    clips = []
    for number, name in enumerate(people):
        real, generated = (
            looks[name] + torch.randn(frames + 5 * number, WIDTH, generator=generator) for _ in range(2)
        )
        clips.append((name, real, generated * 1.2 + 0.3))
    return clips


def filled(metric: FrechetPool | KernelPool, clips: Clips):
    for name, real, generated in clips:
        metric.add(real, "real", name)
        metric.add(generated, "made", name)
    return metric


def by_metric(metric, kept: Clips) -> float:
    for _, real, generated in kept:
        metric.update(real, real=True)
        metric.update(generated, real=False)
    return float(metric.compute())


def fid() -> FrechetInceptionDistance:
    return FrechetInceptionDistance(Thumbnail())


def kid(settings: KidSettings = DEFAULT) -> KernelInceptionDistance:
    return KernelInceptionDistance(Thumbnail(), settings)


@pytest.mark.parametrize(
    ("pooled", "metric"), [(FrechetPool(WIDTH), fid), (KernelPool(EVERYTHING), lambda: kid(EVERYTHING))]
)
def test_the_distance_is_the_metrics_and_so_is_each_with_one_person_left_out(pooled, metric):
    """Of a kernel distance with one subset of all features: leaving out is the same as never having had them."""
    clips = features()
    expected = cluster_jackknife(lambda kept: by_metric(metric(), [clips[k] for k in kept]), WHO)
    found = filled(pooled, clips).interval(["made"])
    assert found.n == 5
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high), rel=1e-8
    )
    assert found.low < found.value < found.high


def test_the_kernel_distance_of_drawn_subsets_is_the_metrics():
    clips = features()
    drawn = filled(KernelPool(SMALL), clips).interval(["made"])
    assert drawn.value == pytest.approx(by_metric(kid(SMALL), clips))
    fewer = dataclasses.replace(SMALL, most=20)  # of more than these, so many are drawn first
    some = filled(KernelPool(fewer), clips).interval(["made"])
    assert some.value == pytest.approx(by_metric(kid(fewer), clips))
    assert some.value != pytest.approx(drawn.value)
    whole = filled(KernelPool(EVERYTHING), clips).interval(["made"])
    assert drawn.high - drawn.value == pytest.approx(whole.high - whole.value, rel=0.5)


@pytest.mark.parametrize(("pooled", "metric"), [(FrechetPool(WIDTH), fid), (KernelPool(), kid)])
def test_the_floor_compares_disjoint_people(pooled, metric):
    assert split_halves(dict(enumerate((70, 35, 45, 50)))) == ([0, 1], [3, 2])  # anna, ben, cleo, dora
    sides = [[one for one in features() if one[0] in half] for half in ("anna ben", "cleo dora")]
    first, second = (torch.cat([real for _, real, _ in side]) for side in sides)
    expected = by_metric(metric(), [("", first, second)])
    assert filled(pooled, features()).floor() == pytest.approx(expected)


@pytest.mark.parametrize("new", [lambda: FrechetPool(WIDTH), KernelPool])
def test_one_person_has_a_floor_by_clips_and_no_interval(new):
    metric = filled(new(), features(("anna",) * 4, frames=200))
    interval = metric.interval(["made"])
    assert (interval.low, interval.n) == (None, 4)
    assert abs(metric.floor()) < interval.value
    assert np.isnan(filled(new(), features(("anna",))).floor())
    assert new().interval(["made"]).value is None
    assert np.isnan(new().floor())


def test_memory_has_a_bound():
    few = PoolSettings(most_clusters=4)
    clips = features(tuple(f"person{k}" for k in range(10)))
    pooled = filled(FrechetPool(WIDTH, few), clips)
    assert [len(side) for side in pooled._sides.values()] == [4, 4]
    interval = pooled.interval(["made"])
    assert interval.value == pytest.approx(by_metric(fid(), clips))
    assert interval.low is not None
    kernel = filled(KernelPool(KidSettings(most=100), few), clips)
    kept = kernel._sides["real"]
    assert len(kept.rows) == 100
    assert set(kept.labels[:, 0].tolist()) == {0, 1, 2, 3}  # all of them are drawn from
    interval = kernel.interval(["made"])
    assert interval.low < by_metric(kid(), clips) < interval.high


@pytest.mark.parametrize("metric", [FrechetPool(WIDTH), KernelPool(SMALL)])
def test_takes_are_compared_each_by_itself_and_averaged(metric):
    """More frames of more takes must not look better: a Fréchet distance falls with the number of frames."""
    for name, real, generated in features():
        metric.add(real, "real", name)
        for take, scale in enumerate((1.0, 1.3)):
            metric.add(generated * scale, f"made {take}", name)
    single = [metric.interval([f"made {take}"]).value for take in (0, 1)]
    both = metric.interval(["made 0", "made 1"])
    assert both.value == pytest.approx(np.mean(single))
    assert both.low < both.value < both.high
    assert metric.interval(["made 0", "made 0"]).value == pytest.approx(single[0])
    assert metric.interval(["made 0", "never"]).value is None


PEOPLE = ("anna", "anna", "ben", "cleo")


def pictures(frames: int = 40) -> Clips:
    generator = torch.Generator().manual_seed(0)
    found = []
    for name in PEOPLE:
        low = 40 * PEOPLE.index(name)
        real, generated = (
            torch.randint(low, low + 90, (frames, 3, 8, 8), generator=generator, dtype=torch.uint8)
            for _ in range(2)
        )
        found.append((name, real, generated // 2))
    return found


def pools(clips: Sequence[str] = PEOPLE, slot: str = "inception") -> PictureDistances:
    """What one network sees of clips of these people, named by their place."""
    files = [ClipFiles(str(place), HERE, HERE, (), name, name) for place, name in enumerate(clips)]
    protocol = get_protocol("talking-head-v2")
    protocol = dataclasses.replace(protocol, fvd=dataclasses.replace(protocol.fvd, windows=20))
    made = PictureDistances(Judges(**{slot: Thumbnail()}), protocol, files)
    made.files = files
    return made


def rows_of(**frames: Sequence[Tensor]) -> dict[str, list[Detections]]:
    return {
        row: [Detections(one, None, np.zeros(len(one))) for one in takes] for row, takes in frames.items()
    }


def test_rows_have_an_interval_by_identity_and_a_floor():
    judge, plain = pools(), pools(("nobody",) * 4)
    for each in (judge, plain):
        for files, (_, real, generated) in zip(each.files, pictures(), strict=True):
            each.add(rows_of(real=[real], generated=[generated]), files)
    values, remarks = judge.compute()
    assert values["fid"].value == pytest.approx(by_metric(fid(), pictures()))
    for name in ("fid", "kid"):
        assert values[name].low < values[name].value < values[name].high
        assert values[name].n == values[f"{name}_floor"].n == 4
        assert values[f"{name}_floor"].low is None
    assert remarks[0] == "fid, kid: 160 real and 160 generated frames, too few (under 2048)"
    assert "two halves of disjoint people" in remarks[1]
    nobody, remarks = plain.compute()
    assert nobody["fid"].value == pytest.approx(values["fid"].value)
    assert nobody["fid"].low is None
    assert 0 < nobody["fid_floor"].value < values["fid_floor"].value  # the same people in both halves
    assert "clips of the only identity" in remarks[1]


def test_a_clip_too_short_for_a_window_is_left_out_of_windows_alone(monkeypatch):
    monkeypatch.setattr(ClipFiles, "probed", lambda self: (15 if self.name == "3" else 40, (8, 8)))
    judge = pools(slot="i3d")
    for files, (_, real, generated) in zip(judge.files, pictures(), strict=True):
        judge.add(rows_of(real=[real], generated=[generated]), files)
    values, remarks = judge.compute()
    assert values["fvd"].n == 3
    assert values["fvd_floor"].value > 0
    assert remarks[0] == "fvd: 20 real and 20 generated windows, too few (under 2048)"


def test_rows_and_takes_are_compared_each_by_itself():
    judge, single = pools(), pools()
    for files, (_, real, generated) in zip(judge.files, pictures(), strict=True):
        judge.add(rows_of(real=[real], codec=[real], generated=[generated] * 2), files)
        # a row that some clips lack is not held against all
        further = {"autoencoder": [generated]} if files.name != "0" else {}
        single.add(rows_of(real=[real], generated=[generated], **further), files)
    (values, remarks), (alone, _) = judge.compute(), single.compute()
    assert values["fid"].value == pytest.approx(alone["fid"].value)  # twice the frames are no better
    assert values["kid"].value == pytest.approx(alone["kid"].value)
    assert values["fid_codec"].value == pytest.approx(0, abs=1e-6)
    assert set(values) == {"fid", "fid_codec", "fid_floor", "kid", "kid_codec", "kid_floor"}
    assert remarks[0] == "fid, kid: 160 real and 160 generated frames of each take, too few (under 2048)"
    assert (alone["fid_autoencoder"].value, alone["kid_autoencoder"].value) == (None, None)
