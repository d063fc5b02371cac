"""A small dataset that is good for every stage, and what a refusal looks like."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.annotations import read_annotations, write_annotations
from datamodules.clips.manifest import read_manifest, write_manifest
from experiments import cli


@pytest.fixture(scope="session")
def blobs(fake_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five of the fake clips, three to train on, with all that a pose is made of in their annotations."""
    root = tmp_path_factory.mktemp("data") / "blobs"
    shutil.copytree(fake_clips, root)
    records = read_manifest(root)[:5]
    write_manifest(root, records)
    for record in records:
        path = root / str(record.annotations)
        arrays = dict(read_annotations(path).arrays)
        arrays["lip_width"] = np.zeros_like(arrays["blink"])
        arrays["landmarks"] = arrays["regions"][:, :, :2]
        write_annotations(path, arrays, {})
    return root


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with status 2 and say one line with these words; returns the line."""

    def run(words: list[object], *told: str) -> str:
        capfd.readouterr()
        assert cli.main([str(word) for word in words]) == 2
        line = capfd.readouterr().err
        assert line.startswith("ifmdm: error: ")
        assert line.count("\n") == 1
        assert all(part in line for part in told), line
        return line

    return run
