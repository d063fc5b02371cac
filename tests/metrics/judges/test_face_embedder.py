"""Face embeddings: the alignment, the network's input, people told apart on real clips."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metrics.evaluation.clips import reference_clips
from metrics.evaluation.loading import load_clip
from metrics.evaluation.protocol_names import ReadingSettings
from metrics.judges.face_embedder import AlignmentSettings, FaceEmbedder, align_faces

SETTINGS = AlignmentSettings()
TEMPLATE = np.array(SETTINGS.template)


def plain(*colours: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8)


def test_alignment_puts_the_five_points_on_the_template():
    """A picture whose red is x and green is y tells where every aligned pixel came from."""
    rows, columns = np.mgrid[0:250, 0:250]
    picture = torch.from_numpy(np.stack([columns, rows, 0 * rows])).to(torch.uint8)[None]
    angle, scale = np.radians(20), 1.6
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = (TEMPLATE - 56) @ rotation.T * scale + 125
    landmarks = np.zeros((1, 478, 3))
    for group, place in zip(SETTINGS.points, places, strict=True):
        landmarks[0, list(group), :2] = place
    face = align_faces(picture, landmarks)
    assert face.shape == (1, 3, 112, 112)
    for (x, y), place in zip(TEMPLATE, places, strict=True):
        # pixel centres: the template's whole numbers, half a pixel beyond the picture's
        assert face[0, :2, round(y), round(x)].numpy() == pytest.approx(place - 0.5, abs=1.2)


class FakeSession:
    """Stands for onnxruntime: a network that gives the mean colour, one face at a time or many."""

    def __init__(self, batch: int | str) -> None:
        self.batch = batch

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input0", shape=[self.batch, 3, 112, 112])]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="vector", shape=[self.batch, 3])]

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        images = inputs["input0"]
        assert isinstance(self.batch, str) or len(images) == self.batch
        return [images.mean(axis=(2, 3)) * 7]


@pytest.mark.parametrize("batch", [1, "N"])
def test_embedder_normalises_and_keeps_the_order(tmp_path, batch):
    path, asked = tmp_path / "colour.onnx", []
    path.write_bytes(b"weights")

    def find(frames: torch.Tensor) -> np.ndarray:
        asked.append(len(frames))
        return np.full((len(frames), 478, 3), np.nan)

    embedder = FaceEmbedder(path, open_session=lambda _: FakeSession(batch), find=find)
    assert embedder.name == "colour"
    assert len(embedder.sha256) == 64
    faces = torch.stack([torch.full((3, 112, 112), float(value)) for value in (0, 255)])
    vectors = embedder.embed_faces(faces)
    expected = (np.array([0.0, 1.0])[:, None] - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert vectors == pytest.approx(expected / np.linalg.norm(expected, axis=1, keepdims=True), abs=1e-5)

    landmarks = np.random.default_rng(0).uniform(0, 8, (2, 478, 3))
    landmarks[1] = np.nan
    embedded = embedder.embed(plain((10, 20, 30), (40, 50, 60)), landmarks)
    assert np.isfinite(embedded[0]).all()
    assert np.isnan(embedded[1]).all()
    assert np.isnan(embedder.embed(plain((1, 1, 1)), landmarks[1:])).all()
    assert not asked
    assert np.isnan(embedder.embed(plain(*[(1, 2, 3)] * 5))).all()
    assert asked == [5]  # landmarks are looked for where none are given


@pytest.fixture
def embedder(shared: Path) -> FaceEmbedder:
    return FaceEmbedder(shared / "models/mobilefacenet.onnx")


def test_a_video_without_any_face_has_vectors_of_the_usual_width(embedder):
    found = embedder.embed(plain(*[(1, 2, 3)] * 4), np.full((4, 478, 3), np.nan))
    assert found.shape == (4, 128)
    assert np.isnan(found).all()


@pytest.mark.slow
def test_people_are_told_apart_on_real_clips(embedder, shared, monkeypatch):
    """Every two frames of one person are nearer than any two of different people, in the crops that are judged."""
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    vectors = []
    for stem, files in reference_clips(shared / "data/clips").items():
        if stem == "stage_cuts_no_face":
            continue
        real = load_clip(files, ReadingSettings(crop="face", size=256)).real
        frames = real[np.linspace(0, len(real) - 1, 4).round().astype(int)]
        found = embedder.embed(torch.from_numpy(frames).permute(0, 3, 1, 2))
        assert np.isfinite(found).all(), stem
        vectors.append(found)

    same = np.concatenate([(one @ one.T)[np.triu_indices(4, 1)] for one in vectors])
    different = np.concatenate([(one @ other.T).ravel() for one, other in itertools.combinations(vectors, 2)])
    assert len(vectors) == 9
    assert same.mean() > 0.8
    assert abs(different.mean()) < 0.1
    assert same.min() > different.max() + 0.1
