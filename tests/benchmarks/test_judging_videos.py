"""The benchmark of the judging of videos, on stand-ins for the judges."""

import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from datamodules.errors import UserError
from datamodules.media.video import write_video
from metrics.evaluation import clip_measures, run
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import get_protocol
from metrics.motion import MotionCurves


@pytest.fixture
def speed(load) -> ModuleType:
    return load("judging_videos")


class FirstPixels(torch.nn.Module):
    num_features = 3

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows[..., 0, 0].float().mean(dim=1)


def watch(frames: np.ndarray) -> tuple[MotionCurves, None]:
    time.sleep(0.02)
    curve = frames[:, 0, 0, 0] / 255
    return MotionCurves(np.stack([curve] * 3, axis=1), curve, np.zeros(len(curve))), None


def test_the_clock_counts_inner_stages_once(speed: ModuleType) -> None:
    clock = speed.Clock()
    inner = clock.timed("inner", lambda: time.sleep(0.03))

    def work(times: int) -> int:
        time.sleep(0.01)
        for _ in range(times):
            inner()
        return times

    begin = time.perf_counter()
    assert clock.timed("outer", work)(2) == 2
    whole = time.perf_counter() - begin
    assert clock.seconds["inner"] >= 0.06
    assert clock.seconds["outer"] >= 0.01
    assert sum(clock.seconds.values()) <= whole  # however busy the machine is


def test_real_clips_are_judged_against_themselves(speed: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "few").mkdir()
    generator = np.random.default_rng(0)
    for name in "abc":
        write_video(tmp_path / f"clips/{name}.mp4", generator.integers(0, 255, (40, 64, 64, 3), np.uint8))
    speed.gather(tmp_path / "clips", 2, "test", tmp_path / "few")
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == ["a.mp4", "b.mp4"]
    protocol = get_protocol("talking-head-v2", size=64, max_frames=30)
    protocol = replace(protocol, fvd=replace(protocol.fvd, windows=5))
    originals = clip_measures.through_codec, run.aggregate
    judges = Judges(watch, i3d=FirstPixels(), hashes={"motion": "0" * 64, "i3d": "0" * 64})
    measured = speed.measure(tmp_path / "few", protocol, judges)
    assert (measured.clips, measured.windows) == (2, 15)  # real, codec and generated
    assert measured.stages["landmarks"] >= 2 * 3 * 0.02  # real, codec, generated
    assert measured.stages["reading"] > 0
    assert measured.stages["codec"] > 0
    assert sum(measured.stages.values()) == pytest.approx(measured.seconds)
    assert (clip_measures.through_codec, run.aggregate) == originals
    text = speed.report(measured, 2048)
    assert "2 clips of at most 30 frames" in text
    assert "the protocol's 2048 of each side" in text
    with pytest.raises(UserError, match="no such folder"):
        speed.gather(tmp_path / "none", 2, "test", tmp_path / "few")


def test_random_networks_have_the_features_of_the_real_ones(speed: ModuleType, load) -> None:
    i3d = load("random_networks").RandomI3D().eval()
    with torch.no_grad():
        assert i3d(torch.rand(1, 3, 16, 32, 32) * 255).shape == (1, 400)
    assert sum(weights.numel() for weights in i3d.parameters()) == pytest.approx(12.7e6, rel=0.01)
    judges = Judges(watch)
    speed.fill_in(judges)
    frames = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    assert judges.inception(frames).shape == (2, 2048)
    assert judges.sync.boxes
    assert {"sync", "inception", "i3d"} <= set(judges.hashes)
