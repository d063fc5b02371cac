"""A full disk, or a folder that takes no files, is one line: no half file is left, and what was there before stays."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.faces.finding import FaceBox
from datamodules.media.audio import write_wav
from experiments import cli
from experiments.train import TrainingResult


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Play a full disk: no file gets more bytes; the system refuses to write them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command whose files may have so many bytes: after its progress it must tell what it can't write in one line."""

    def run(
        words: list[str], size: int, name: Path | str, told: str = "can't be written (File too large)"
    ) -> None:
        capsys.readouterr()
        with largest_file(size):
            assert cli.main(words) == 2
        *progress, line = capsys.readouterr().err.splitlines()
        assert line.startswith(f"ifmdm: error: {name}")
        assert told in line
        assert all(one.startswith(("rendering: ", "encoding clips: ")) for one in progress), progress

    return run


@pytest.fixture
def generate(build_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of ``ifmdm generate`` but for the output; a face needs no detector."""
    build_model().save_pretrained(tmp_path / "model")
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "portrait.png")
    write_wav(tmp_path / "speech.wav", 0.1 * np.sin(np.arange(16_000) / 20).astype(np.float32))
    face = FaceBox(50.0, 67.0, 206.0, 225.0)
    monkeypatch.setattr("datamodules.faces.finding.require_face", lambda *_, **__: face)
    places = {"image": "portrait.png", "audio": "speech.wav", "model": "model"}
    return ["generate", *(f"--{flag}={tmp_path / name}" for flag, name in places.items())]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_generate(share: float, generate: list[str], refused: Callable[..., None], tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    there = folder / "there.mp4"
    assert cli.main([*generate, f"--output={there}"]) == 0
    size = int(share * there.stat().st_size)
    there.write_bytes(b"before")
    for path in (there, folder / "new.mp4"):
        refused([*generate, f"--output={path}"], size, path)
    assert contents(folder) == {"there.mp4": b"before"}
    refused([*generate, "--output=/proc/new.mp4"], size, "/proc", "may not be written to")


def test_package(
    autoencoder: TrainingResult,
    train: Callable[..., TrainingResult],
    refused: Callable[..., None],
    tmp_path: Path,
) -> None:
    words = ["package", f"--autoencoder={autoencoder.run_dir}"]
    for stage in ("statistics", "diffusion"):
        run = train(stage, "trainer.max_steps=1", f"run_dir={tmp_path / stage}").run_dir
        words.append(f"--{stage}={run}")
    folder = tmp_path / "models"
    folder.mkdir()
    assert cli.main([*words, f"--output={folder / 'good'}"]) == 0
    before = contents(folder)
    sizes = sorted(map(len, before.values()))
    for size in (0, sizes[0] - 1, sizes[1] - 1, sizes[-1] - 1):  # the first file fails, or a later one
        refused([*words, f"--output={folder / 'new'}"], size, folder / "new")
        assert contents(folder) == before
        assert [path.name for path in folder.iterdir()] == ["good"]
    refused([*words, "--output=/proc/model"], 2**30, "/proc/model", "may not be written to")


def test_encode(
    autoencoder: TrainingResult, blobs: Path, refused: Callable[..., None], tmp_path: Path
) -> None:
    folder = tmp_path / "latents"
    words = ["encode", f"autoencoder={autoencoder.run_dir}", "data=folder", f"data.root={blobs}"]
    there = [*words, f"data.latents={folder}"]
    refused(there, 0, folder)
    assert contents(tmp_path) == {}
    assert cli.main([*there, "shard=1/2"]) == 0
    before = contents(folder)
    assert len(before) == 2
    for more in (["shard=2/2"], [], ["workers=1"]):
        refused([*there, *more], 1000, folder)
        assert contents(folder) == before
    assert cli.main([*there, "shard=2/2"]) == 0
    (basis,) = folder.glob("basis-*")
    basis.unlink()
    before = contents(folder)
    refused(there, 1000, basis)
    assert contents(folder) == before
    refused([*words, "data.latents=/proc/latents"], 2**30, "/proc/latents", "is not there")
