"""A dataset of a few coloured blobs: enough for every stage, made in a second."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.annotations import write_annotations
from datamodules.clips.manifest import ClipRecord, write_manifest
from datamodules.media.audio import write_wav
from datamodules.media.video import write_video

SIZE = 32
FRAMES = 90
SPLITS = ("train", "train", "train", "val", "test")


def blob_clip(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (T, S, S, 3) of a blob that swings, and its angle (T,)."""
    rng = np.random.default_rng(seed)
    angle = np.sin(np.arange(FRAMES) / (4 + 2 * rng.random()) + seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    centre = 0.5 + 0.2 * angle[:, None, None]
    inside = (x[None] - centre) ** 2 + (y[None] - 0.5) ** 2 < 0.06
    colour, back = rng.integers(60, 255, 3), rng.integers(0, 120, 3)
    return np.where(inside[..., None], colour, back).astype(np.uint8), angle.astype(np.float32)


def blob_annotations(angle: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of the annotation file that belong to ``blob_clip``."""
    still = np.zeros_like(angle)
    landmarks = np.stack(
        [np.stack([0.5 + 0.2 * angle + dx, still + 0.5], axis=1) for dx in (-0.1, 0.1)], axis=1
    )
    box = np.array([0.3, 0.4, 0.7, 0.6], dtype=np.float32)
    return {
        "rotation": np.stack([20 * angle, still, still], axis=1),
        "lip_opening": np.abs(angle),
        "lip_width": still,
        "blink": still,
        "landmarks": landmarks.astype(np.float32),
        "regions": np.tile(box, (len(angle), 3, 1)),
    }


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared folder of five 32 px clips of 3.6 s with sound and annotations."""
    root = tmp_path_factory.mktemp("blobs")
    (root / "clips").mkdir()
    records = []
    for index, split in enumerate(SPLITS):
        clip, name = blob_clip(index), f"blob{index}"
        noise = np.random.default_rng(index).standard_normal(FRAMES * 640).astype(np.float32) * 0.1
        write_video(root / "clips" / f"{name}.mp4", clip[0])
        write_wav(root / "clips" / f"{name}.wav", noise)
        write_annotations(root / "clips" / f"{name}.safetensors", blob_annotations(clip[1]), {})
        files = [f"clips/{name}.{suffix}" for suffix in ("mp4", "wav", "safetensors")]
        records.append(
            ClipRecord(
                name,
                files[0],
                files[1],
                "",
                name,
                name,
                split,
                "test",
                0.0,
                FRAMES,
                SIZE,
                annotations=files[2],
            )
        )
    write_manifest(root, records)
    return root
