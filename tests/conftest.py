"""Fixtures of all tests."""

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

signal.signal(signal.SIGPROF, signal.SIG_IGN)  # see `datamodules.faces.landmarks.open_landmarker`


LONGEST = (
    "test_every_command",
    "test_notebooks",
    "test_interruptions",
    "test_ending_processes",
    "test_train",
)
"""Files that take a minute: begun last, one of them would run alone while the other test processes have nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, longest first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test said of file names that are no text is marked: one test process can't hand it to another as it is."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real clips, portraits, speech and public models; absent in a plain clone."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("IFMDM_TEST_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip(
            "needs real clips and portraits: set IFMDM_TEST_SHARED to a folder with data/ and models/"
        )
    return folder


@pytest.fixture(scope="session")
def fake_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared folder of 6 clips of 90 frames (the last: 50) at 32 px: a moving blob, noise as speech.

    Splits: four train, one val, one test, each clip its own identity. To be read only.
    """
    from datamodules.clips.annotations import write_annotations
    from datamodules.clips.manifest import SYNTHETIC_SOURCE, ClipRecord, file_sha256, write_manifest
    from datamodules.media.audio import write_wav
    from datamodules.media.video import write_video

    root = tmp_path_factory.mktemp("fake_clips")
    (root / "clips").mkdir()
    rows, columns = np.mgrid[0:32, 0:32]
    records = []
    for clip, split in enumerate(("train", "train", "train", "val", "test", "train")):
        generator = np.random.default_rng(clip)
        frames = 50 if clip == 5 else 90
        times = np.arange(frames) / 25
        x, y = 16 + 8 * np.sin(2 * np.pi * times), 16 + 6 * np.cos(2 * np.pi * (0.5 + clip / 10) * times)
        blob = np.exp(-((columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2) / 40)[..., None]
        colour, ground = generator.uniform(120, 255, 3), generator.uniform(0, 100, 3)
        pixels = (blob * colour + (1 - blob) * ground).astype(np.uint8)
        centre = np.stack([x, y], axis=1)[:, None] / 32
        offsets = np.array([[0, 0.1], [0.1, -0.1], [-0.1, -0.1]])  # mouth, left eye (image right), right eye
        regions = np.concatenate([centre + offsets - 0.05, centre + offsets + 0.05], axis=-1).clip(0, 1)
        speech = generator.normal(0, 0.1, 640 * frames)
        name = f"fake{clip}"
        write_wav(root / f"clips/{name}.wav", speech.astype(np.float32))
        write_video(root / f"clips/{name}.mp4", pixels)
        arrays = {
            "regions": regions.astype(np.float32),
            "rotation": np.stack([x - 16, y - 16, 0 * x], axis=1).astype(np.float32),
            "lip_opening": np.abs(np.sin(10 * times)).astype(np.float32),
            "blink": ((np.arange(frames) >= 40) & (np.arange(frames) < 45)).astype(np.float32),
        }
        write_annotations(root / f"clips/{name}.safetensors", arrays, {"intensity": 1.0})
        video, audio, annotations = (f"clips/{name}.{kind}" for kind in ("mp4", "wav", "safetensors"))
        person, sha256 = f"person{clip}", file_sha256(root / video)
        of_whom = (person, person, split, SYNTHETIC_SOURCE)
        records.append(
            ClipRecord(name, video, audio, sha256, *of_whom, 0.0, frames, 32, annotations=annotations)
        )
    write_manifest(root, records)
    return root


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Any]:
    """Builds an untrained TalkingHead of 32 px; zero-initialised weights are random too, so that every option shows."""
    import torch

    from lightning_modules.audio_frontend import AudioFrontend
    from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
    from lightning_modules.generation.talking_head import TalkingHead
    from lightning_modules.networks.motion_basis import fit_motion_basis
    from lightning_modules.networks.registry import build_network

    encoder: dict[str, Any] = {"name": "mel_encoder", "in_dim": 160, "width": 16, "out_dim": 16}
    specs: dict[str, dict[str, Any]] = {
        "autoencoder": {
            "name": "paper_renderer",
            "size": 32,
            "channels": {"4": 16, "8": 16, "16": 12, "32": 8},
            "latent_dim": 64,
            "source_skip": True,
            "rgb_input": "blend",
        },
        "statistics": {"name": "statistics_estimator", "appearance_dim": 64, "width": 16},
        "diffusion": {"name": "diffusion_transformer", "width": 32, "depth": 2, "heads": 2},
    }
    for stage in ("statistics", "diffusion"):
        specs[stage]["audio_encoder"] = encoder
    names = ("yaw", "pitch", "roll", "shift_x", "shift_y", "lip_opening", "lip_width", "blink")

    def build(blocks: bool = True, frontend: AudioFrontend | None = None) -> TalkingHead:
        torch.manual_seed(0)
        frontend = frontend or AudioFrontend()
        encoder["in_dim"] = frontend.dim
        built: dict[str, Any] = {stage: build_network(**spec) for stage, spec in specs.items()}
        with torch.no_grad():
            for parameter in (p for network in built.values() for p in network.parameters()):
                if not parameter.any():
                    parameter.normal_(std=0.05)
        causes = torch.randn(400, 20)
        targets = {name: causes[:, i] for i, name in enumerate(names)} if blocks else None
        model = TalkingHead(
            built["autoencoder"],
            fit_motion_basis(0.1 * causes, targets),
            built["diffusion"],
            GaussianDiffusion(sampler_steps=3),
            built["statistics"],
            frontend,
        )
        return model.eval().requires_grad_(False)

    return build
