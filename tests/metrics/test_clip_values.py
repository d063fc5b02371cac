"""The judges that need no download, as metrics: each clip's value by its function, over clips and processes."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist
from torchmetrics import Metric

from datamodules.clips.phones import Phone
from metrics.av_correlation import AVCorrelationScore, LipRegressor, SpokenClip, measure_sync
from metrics.lip_closure import LipClosure, lip_closure
from metrics.sharpness import Flicker, Sharpness, flicker, hold_still, sharpness

FRAMES = 120
NAMES = ("lip_closure", "sharpness", "flicker", "av")


def spoken(seed: int) -> SpokenClip:
    generator = np.random.default_rng(seed)
    level = np.convolve(generator.uniform(0, 1, FRAMES + 6), np.hanning(7)[1:-1] / 3, "same")[3:-3] ** 2
    waveform = generator.normal(size=FRAMES * 640) * np.repeat(level, 640) * 0.2
    lips = np.roll(np.log(level + 0.01), seed % 3)
    return SpokenClip(f"person{seed}", f"voice{seed}", waveform.astype(np.float32), lips)


def pictures(seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Twelve frames of noise and a face's landmarks on them; one frame without a face."""
    generator = np.random.default_rng(seed)
    points = np.tile(np.random.default_rng(9).uniform(30, 90, (478, 3)), (12, 1, 1))
    points[:, [33, 263]] = [[40.0, 50, 0], [80.0, 50, 0]]
    points[seed % 12] = np.nan
    return torch.from_numpy(generator.integers(0, 256, (12, 3, 120, 120), dtype=np.uint8)), points


def still(frames: torch.Tensor, points: np.ndarray) -> float:
    return flicker(hold_still(frames, points), np.flatnonzero(np.isfinite(points).all(axis=(1, 2))))


def made(name: str, seeds: list[int]) -> tuple[Metric, list[dict[str, float]]]:
    """A metric that saw these clips, and what its function says of each."""
    regressor = LipRegressor([spoken(seed) for seed in (20, 21, 22)])
    metric = {
        "lip_closure": LipClosure,
        "sharpness": Sharpness,
        "flicker": Flicker,
        "av": lambda: AVCorrelationScore(regressor),
    }[name]()
    values = []
    for seed in seeds:
        clip, (frames, points), (others, places) = spoken(seed), pictures(seed), pictures(seed + 50)
        if name == "lip_closure":
            phones = [Phone("M", 0.1 * k, 0.1 * k + 0.08) for k in range(seed, 20)]
            metric.update(clip.lip_opening, clip.lip_opening, phones)
            values.append({"lip_closure": lip_closure(clip.lip_opening, clip.lip_opening, phones)})
        elif name == "sharpness":
            metric.update(frames // 2, points, others, places)
            values.append(sharpness(hold_still(frames // 2, points), hold_still(others, places)))
        elif name == "flicker":
            metric.update(frames, points)
            values.append({"flicker": still(frames, points)})
        else:
            foreign = [spoken(30).waveform, spoken(31).waveform]
            metric.update(clip.lip_opening, clip.waveform, foreign, clip.lip_opening)
            values.append(measure_sync(clip.lip_opening, clip.waveform, regressor, foreign, clip.lip_opening))
    return metric, values


def by_name(metric: Metric, name: str) -> dict[str, torch.Tensor]:
    """What a metric says of its clips, of one measure or of several."""
    found = metric.compute()
    return found if isinstance(found, dict) else {name: found}


@pytest.mark.parametrize("name", NAMES)
def test_clips_are_averaged_and_of_lags_the_median_is_taken(name: str) -> None:
    metric, values = made(name, [1, 2, 3, 5])
    found = by_name(metric, name)
    assert set(found) == set(values[0])
    for key, value in found.items():
        over = np.nanmedian if key == "av_lag" else np.nanmean
        assert float(value) == pytest.approx(over([one[key] for one in values]), rel=1e-6)
    assert any(np.nanstd([one[key] for one in values]) > 0 for key in found)


def test_a_clip_without_a_value_does_not_count() -> None:
    metric, values = made("lip_closure", [1])
    metric.update(spoken(2).lip_opening, spoken(2).lip_opening, [])
    assert float(metric.compute()) == pytest.approx(values[0]["lip_closure"])
    metric.reset()
    assert metric.compute().isnan()


def _process(rank: int, port: int, shares: list[list[int]], results: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {name: by_name(made(name, shares[rank])[0], name) for name in NAMES}
    torch.save(found, results / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("shares", [[[1, 2, 3], [5]], [[1, 2, 3, 5], []]], ids=["split", "one idle"])
def test_two_processes_give_what_one_gives(shares: list[list[int]], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_process, (port, shares, tmp_path), nprocs=2, start_method="fork")
    for name in NAMES:
        expected = by_name(made(name, [1, 2, 3, 5])[0], name)
        for rank in (0, 1):
            found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)[name]
            for key, value in expected.items():
                assert float(found[key]) == pytest.approx(float(value), rel=1e-6), key
