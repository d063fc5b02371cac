"""Distances over all clips at once against the metrics that know no identities, and against leaving clips out by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metrics import pooled
from metrics.bootstrap import cluster_jackknife
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance
from metrics.pooled import PooledFrechet, PooledKernel, split_halves

WIDTH = 12
WHO = ("anna", "ben", "anna", "cleo", "dora")


class NoNetwork(nn.Module):
    num_features = WIDTH


def features(people: tuple[str, ...] = WHO, frames: int = 30) -> list[tuple[str, Tensor, Tensor]]:
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


def filled(metric: PooledFrechet | PooledKernel, clips: list[tuple[str, Tensor, Tensor]]):
    for name, real, generated in clips:
        metric.add(real, "real", name)
        metric.add(generated, "made", name)
    return metric


def by_metric(metric, kept: list[tuple[str, Tensor, Tensor]]) -> float:
    for _, real, generated in kept:
        metric.update(real, real=True)
        metric.update(generated, real=False)
    return float(metric.compute())


def test_the_frechet_distance_is_the_metrics_and_so_is_each_with_one_person_left_out():
    clips = features()
    expected = cluster_jackknife(
        lambda kept: by_metric(FrechetInceptionDistance(NoNetwork()), [clips[k] for k in kept]), WHO
    )
    found = filled(PooledFrechet(WIDTH), clips).interval(["made"])
    assert found.n == 5
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-8)
    assert found.low < found.value < found.high


def test_the_kernel_distance_is_the_metrics_and_so_is_each_with_one_person_left_out():
    """With one subset of all features leaving out is the same as never having had them."""
    clips = features()
    everything = {"subsets": 1, "size": 10_000}
    expected = cluster_jackknife(
        lambda kept: by_metric(KernelInceptionDistance(NoNetwork(), **everything), [clips[k] for k in kept]),
        WHO,
    )
    found = filled(PooledKernel(**everything), clips).interval(["made"])
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-8)
    small = {"subsets": 20, "size": 40, "seed": 3}
    drawn = filled(PooledKernel(**small), clips).interval(["made"])
    assert drawn.value == pytest.approx(by_metric(KernelInceptionDistance(NoNetwork(), **small), clips))
    assert drawn.high - drawn.value == pytest.approx(found.high - found.value, rel=0.5)


def test_the_floor_compares_disjoint_people():
    clips = features()
    halves = split_halves(dict(enumerate((70, 35, 45, 50))))  # anna, ben, cleo, dora
    assert halves == ([0, 1], [3, 2])
    sides = [
        torch.cat([real for name, real, _ in clips if name in half]) for half in ("anna ben", "cleo dora")
    ]
    fid = FrechetInceptionDistance(NoNetwork())
    kid = KernelInceptionDistance(NoNetwork())
    for metric in (fid, kid):
        metric.update(sides[0], real=True)
        metric.update(sides[1], real=False)
    assert filled(PooledFrechet(WIDTH), clips).floor() == pytest.approx(float(fid.compute()))
    assert filled(PooledKernel(), clips).floor() == pytest.approx(float(kid.compute()))


def test_one_person_has_a_floor_by_clips_and_no_interval():
    for metric in (PooledFrechet(WIDTH), PooledKernel()):
        filled(metric, features(("anna",) * 4, frames=200))
        interval, floor = metric.interval(["made"]), metric.floor()
        assert interval.low is None
        assert interval.n == 4
        assert np.isfinite(floor)
        assert abs(floor) < interval.value
    alone = filled(PooledFrechet(WIDTH), features(("anna",)))
    assert np.isnan(alone.floor())
    assert np.isnan(filled(PooledKernel(), features(("anna",))).floor())


def test_nothing_has_no_value():
    for metric in (PooledFrechet(WIDTH), PooledKernel()):
        assert metric.interval(["made"]).value is None
        assert np.isnan(metric.floor())


def test_memory_has_a_bound(monkeypatch):
    monkeypatch.setattr(pooled, "MOST_CLUSTERS", 4)
    monkeypatch.setattr(pooled, "MOST_KEPT", 100)
    people = tuple(f"person{k}" for k in range(10))
    clips = features(people)
    fid = filled(PooledFrechet(WIDTH), clips)
    assert [len(side) for side in fid._sides.values()] == [4, 4]
    assert fid.count("real") == fid.count("made") == sum(len(real) for _, real, _ in clips)
    assert fid.interval(["made"]).value == pytest.approx(
        by_metric(FrechetInceptionDistance(NoNetwork()), clips)
    )
    assert fid.interval(["made"]).low is not None
    kid = filled(PooledKernel(), clips)
    kept = kid._sides["real"]
    assert (len(kept.rows), kept.count) == (100, fid.count("real"))
    assert set(kept.labels[:, 0].tolist()) == {0, 1, 2, 3}  # all of them are drawn from
    whole = by_metric(KernelInceptionDistance(NoNetwork()), clips)
    interval = kid.interval(["made"])
    assert interval.low < whole < interval.high


def test_takes_are_compared_each_by_itself_and_averaged():
    """More frames of more takes must not look better: a Fréchet distance falls with the number of frames."""
    clips = features()
    for metric in (PooledFrechet(WIDTH), PooledKernel(subsets=20, size=40)):
        for name, real, generated in clips:
            metric.add(real, "real", name)
            for take, scale in enumerate((1.0, 1.3)):
                metric.add(generated * scale, f"made {take}", name)
        single = [metric.interval([f"made {take}"]).value for take in (0, 1)]
        both = metric.interval(["made 0", "made 1"])
        assert both.value == pytest.approx(np.mean(single))
        assert both.low < both.value < both.high
        assert metric.interval(["made 0", "made 0"]).value == pytest.approx(single[0])
        assert metric.interval(["made 0", "never"]).value is None
