"""Drawn clips that say in grey what is in them, stand-in judges that read it, and an evaluation by these judges."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.media.audio import log_mel
from datamodules.media.video import write_video
from metrics.evaluation.clip_results import ROW_FAMILIES
from metrics.evaluation.clips import match_videos
from metrics.evaluation.judges import Judges
from metrics.evaluation.loading import find_crop, rendered_clips, resize
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.run import evaluate
from metrics.motion import MotionCurves, lagged_correlation

SIZE, FRAMES = 64, 60
REST = np.random.default_rng(7).uniform(-12, 12, (478, 3))
REST[[33, 263, 133, 362, 168, 6, 197, 195]] = [
    (-12, -6, 0), (12, -6, 0), (-5, -6, 1), (5, -6, 1), (0, -6, 3), (0, -3, 4), (0, 0, 5), (0, 2, 6),
]  # fmt: skip
PROTOCOL = get_protocol("talking-head-v2", size=SIZE)
NO_SYNCNET = "syncnet_v2.model: model file not found; get it by `ifmdm assets fetch syncnet_v2.model`"


def draw(lips: np.ndarray, sway: np.ndarray, colour: int) -> np.ndarray:
    """Frames whose upper left corner says lip opening, sway and person in grey; the rest is a moving pattern."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    frames = 128 + 60 * np.sin((columns + sway[:, None, None]) / 3) * np.cos(rows / 4 + colour)
    frames = np.repeat(frames[..., None], 3, axis=-1)
    for place, value in enumerate((200 * lips, 128 + 8 * sway, np.full(len(lips), 80.0 * colour + 40))):
        frames[:, :16, 16 * place : 16 * place + 16] = value[:, None, None, None]
    return frames.round().clip(0, 255).astype(np.uint8)


def watch(frames: np.ndarray) -> tuple[MotionCurves, np.ndarray]:
    """A stand-in for the face model: reads what `draw` wrote; a black frame has no face."""
    scale = frames.shape[1] / SIZE
    side = round(16 * scale)
    lips, sway, _ = (
        frames[:, 2 : side - 2, side * k + 2 : side * (k + 1) - 2].mean(axis=(1, 2, 3)) for k in range(3)
    )
    lips, sway = lips / 200, (sway - 128) / 8
    points = np.repeat(REST[None], len(frames), axis=0)
    points[:, [14, 17], 1] += 6 * lips[:, None]
    points = (points + 32) * scale
    points[..., 0] += scale * sway[:, None]
    lost = frames.reshape(len(frames), -1).max(axis=1) < 20
    rotation = np.stack([sway, 0 * sway, 0 * sway], axis=1)
    for curve in (lips, rotation, points):
        curve[lost] = np.nan
    return MotionCurves(rotation, lips, np.zeros(len(frames))), points


def embed(frames: torch.Tensor, landmarks: np.ndarray) -> np.ndarray:
    side = frames.shape[-1] // 4
    angle = frames[:, :, 2 : side - 2, 2 * side + 2 : 3 * side - 2].float().mean(dim=(1, 2, 3)).numpy() / 80
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    vectors[np.isnan(landmarks).any(axis=(1, 2))] = np.nan
    return vectors


class PictureFields(torch.nn.Module):
    """Stands in for the Inception: how much neighbouring pixels differ in 2 x 2 fields, which blur lessens."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        edges = images.float().diff(dim=-1).abs()
        return torch.nn.functional.adaptive_avg_pool2d(edges, 2).flatten(1)


class WindowFields(PictureFields):
    """Stands in for I3D: the mean of `PictureFields` over the frames of a window."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.stack([super(WindowFields, self).forward(window).mean(dim=0) for window in windows])


class Difference(torch.nn.Module):
    """Stands in for AlexNet: mean absolute difference of two pictures."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean(dim=(1, 2, 3))


def hear(
    frames: torch.Tensor, points: np.ndarray | None, sounds: list[np.ndarray], protocol: Protocol
) -> list[dict[str, float]]:
    """Stands in for a SyncNet: how the corner that `draw` paints by the lips goes with the loudness of the sound."""
    if np.isnan(points).all():
        raise ValueError("no track of a face")
    side = frames.shape[-1] // 4
    lips = frames[:, :, 2 : side - 2, 2 : side - 2].float().mean(dim=(1, 2, 3)).numpy()
    loud = [np.sqrt((one.reshape(len(lips), -1) ** 2).mean(axis=1)) for one in sounds]
    found = [lagged_correlation(lips, one, protocol.lags) for one in loud]
    return [{"lse_d": 10 - 5 * one.best, "lse_c": 5 * one.best, "av_offset": -one.lag} for one in found]


def stand_ins(**changes: Any) -> Judges:
    slots = ("motion", "landmarks", "embedder")
    hashes = {slot: str(place) * 64 for place, slot in enumerate(slots)}
    return Judges(
        **{"detector": watch, "embed": embed, "hashes": hashes, "absent": {"sync": NO_SYNCNET}, **changes}
    )


def all_judges(**changes: Any) -> Judges:
    judges = stand_ins(
        sync=hear,
        lpips=Difference(),
        inception=PictureFields(),
        i3d=WindowFields(),
        efficientnet=PictureFields(),
        listener=log_mel,
    )
    judges.hashes |= dict.fromkeys(
        ("sync", "lpips", "inception", "i3d", "efficientnet", "listener"), "9" * 64
    )
    judges.absent.clear()
    for name, value in changes.items():
        setattr(judges, name, value)
    return judges


def judge_videos(
    videos: Path,
    reference: Path,
    judges: Judges | None = None,
    protocol: Protocol = PROTOCOL,
    seeds: bool = False,
    autoencoder: Any = None,
    crop: Any = find_crop,
) -> dict[str, Any]:
    """What `evaluate` says of a folder of videos."""
    data, alone = match_videos(videos, reference, seeds)
    clips = rendered_clips(data, protocol.reading, autoencoder, crop)
    judges = judges or stand_ins()
    results = evaluate(clips, data, protocol, judges, ROW_FAMILIES[protocol.task])
    results["missing"] += alone
    results["value"] = {name: one["value"] for name, one in results["metrics"].items()}
    return results


def whys(results: dict[str, Any], clip: str) -> str:
    return "; ".join(f"{one['what']}: {one['why']}" for one in results["missing"] if one["clip"] == clip)


def clip_of(results: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in results["clips"] if one["clip"] == name)


def spoken(seed: int, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Lip opening in 0..1 and the speech that goes with it."""
    generator = np.random.default_rng(seed)
    level = np.convolve(generator.uniform(0, 1, frames), np.ones(3) / 3, "same")
    return level, (generator.normal(size=frames * 640) * np.repeat(level, 640) * 0.3).astype(np.float32)


def with_phones(reference: Path, aligned: Path) -> Path:
    """A copy of the reference with an m in the phones wherever the lips are nearly shut."""
    shutil.copytree(reference, aligned)
    for number, name in ((0, "anna/a1"), (2, "ben"), (3, "cleo")):
        lips, _ = spoken(number)
        closed = np.flatnonzero(lips <= np.quantile(lips, 0.08))
        rows = [f"{k / 25},{(k + 1) / 25},{'m' if k in closed else 'a'}" for k in range(FRAMES)]
        (aligned / f"{name}.phones.csv").write_text("\n".join(["start,end,phone", *rows]))
    return aligned


@pytest.fixture(scope="session")
def studio() -> SimpleNamespace:
    """The functions above, as tests can't import each other."""
    return SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("_")})


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain folder of four people's clips, one of them twice, one without sound."""
    root = tmp_path_factory.mktemp("reference")
    for number, name in enumerate(("anna/a1", "anna/a2", "ben", "cleo", "mute")):
        lips, speech = spoken(number)
        sway = 2 * np.sin(np.arange(FRAMES) / 6 + number)
        path = root / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        frames = draw(lips, sway, max(0, number - 1) % 3)
        write_video(path, frames, audio=None if name == "mute" else speech, crf=8)
    return root


@pytest.fixture(scope="session")
def videos(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method's videos: lips as the real ones but half as wide open, still head; some are faulty."""
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a1", "a2", "ben", "cleo", "mute")):
        lips, _ = spoken(number)
        frames = draw(0.5 * lips, 0 * lips, max(0, number - 1) % 3)
        if name == "a2":
            frames = frames[:50]  # too short
        if name == "cleo":
            frames[10:15] = 0  # no face
        if name == "ben":
            frames = resize(frames, 96, 96)
        write_video(root / f"{name}.mp4", frames, crf=8)
    shutil.copy(root / "a1.mp4", root / "stranger.mp4")
    return root


@pytest.fixture(scope="session")
def results(videos: Path, reference: Path) -> dict[str, Any]:
    return judge_videos(videos, reference)
