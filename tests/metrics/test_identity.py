import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.video_pairs import load_pair, reference_clips
from metrics import identity
from metrics.identity import AED, ARCFACE_POINTS, CSIM, FaceEmbedder, align_faces, identity_similarity
from metrics.protocol import protocol_settings

FIVE = ((33, 133), (362, 263), (4,), (61,), (291,))


class ColourEmbedder:
    """Embeds a frame by its mean colour; a black frame has no face."""

    name, sha256 = "colours", "0" * 64

    def embed(self, frames: torch.Tensor, landmarks: np.ndarray | None = None) -> np.ndarray:
        colours = frames.float().mean(dim=(2, 3)).numpy()
        lengths = np.linalg.norm(colours, axis=1, keepdims=True)
        return np.where(lengths > 0, colours / np.where(lengths > 0, lengths, 1), np.nan)


def plain(*colours: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8)


def test_csim_is_the_mean_cosine_and_counts_faceless_frames():
    metric = CSIM(ColourEmbedder())
    red, black = (200, 0, 0), (0, 0, 0)
    metric.update(plain(red)[0], plain(red, (100, 100, 0), black))
    assert float(metric.compute()) == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert int(metric.faceless) == 1
    metric.update(plain(black)[0], plain(red, red))  # no face in the source: nothing can be said of the clip
    assert int(metric.faceless) == 3
    assert int(metric.clips) == 1
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        metric.update(plain(red), plain(red))


def test_aed_is_the_distance_of_unit_vectors():
    metric = AED(ColourEmbedder())
    metric.update(plain((200, 0, 0), (9, 9, 9)), plain((0, 50, 0), (1, 1, 1)))
    assert float(metric.compute()) == pytest.approx(np.sqrt(2) / 2)


def test_alignment_puts_the_five_points_on_the_template():
    """A picture whose red is x and green is y tells where every aligned pixel came from."""
    rows, columns = np.mgrid[0:250, 0:250]
    picture = torch.from_numpy(np.stack([columns, rows, 0 * rows])).to(torch.uint8)[None]
    angle, scale = np.radians(20), 1.6
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = (ARCFACE_POINTS - 56) @ rotation.T * scale + 125
    landmarks = np.zeros((1, 478, 3))
    for group, place in zip(FIVE, places, strict=True):
        landmarks[0, list(group), :2] = place
    face = align_faces(picture, landmarks)
    assert face.shape == (1, 3, 112, 112)
    for (x, y), place in zip(ARCFACE_POINTS, places, strict=True):
        # pixel centres: the template's whole numbers, half a pixel beyond the picture's
        assert face[0, :2, round(y), round(x)].numpy() == pytest.approx(place - 0.5, abs=1.2)


class FakeSession:
    """Stands for onnxruntime: a network that gives the mean colour, one face at a time or many."""

    batch: int | str = 1

    def __init__(self, path: str, options: object, providers: list[str]) -> None:
        self.seen: list[np.ndarray] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input0", shape=[self.batch, 3, 112, 112])]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="vector", shape=[self.batch, 3])]

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        images = inputs["input0"]
        assert isinstance(self.batch, str) or len(images) == self.batch
        self.seen.append(images)
        return [images.mean(axis=(2, 3)) * 7]


@pytest.mark.parametrize("batch", [1, "N"])
def test_embedder_normalises_and_keeps_the_order(monkeypatch, tmp_path, batch):
    monkeypatch.setattr(FakeSession, "batch", batch)
    fake = SimpleNamespace(InferenceSession=FakeSession, SessionOptions=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    path = tmp_path / "colour.onnx"
    path.write_bytes(b"weights")
    embedder = FaceEmbedder(path)
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


def test_landmarks_are_looked_for_where_none_are_given(monkeypatch):
    asked = []
    monkeypatch.setattr(
        identity,
        "find_landmarks",
        lambda frames: asked.append(len(frames)) or np.full((len(frames), 478, 3), np.nan),
    )
    embedder = FaceEmbedder.__new__(FaceEmbedder)
    monkeypatch.setattr(
        FaceEmbedder, "embed_faces", lambda self, faces: np.empty((len(faces), 4), np.float32)
    )
    assert np.isnan(identity_similarity(embedder, plain((1, 2, 3))[0], plain(*[(1, 2, 3)] * 5))).all()
    assert sorted(asked) == [1, 5]


def test_a_video_without_any_face_has_vectors_of_the_usual_width(shared, monkeypatch):
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    found = FaceEmbedder().embed(plain(*[(1, 2, 3)] * 4), np.full((4, 478, 3), np.nan))
    assert found.shape == (4, 128)
    assert np.isnan(found).all()


@pytest.mark.slow
def test_people_are_told_apart_on_real_clips(shared, monkeypatch):
    """Every two frames of one person are nearer than any two of different people, in the crops that are judged."""
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    embedder = FaceEmbedder()
    vectors = []
    settings = protocol_settings("talking-head-v1", crop="face", size=256)
    for stem, pair in reference_clips(shared / "data/clips").items():
        if stem == "stage_cuts_no_face":
            continue
        real = load_pair(pair, settings).real
        frames = real[np.linspace(0, len(real) - 1, 4).round().astype(int)]
        found = embedder.embed(torch.from_numpy(frames).permute(0, 3, 1, 2))
        assert np.isfinite(found).all(), stem
        vectors.append(found)

    same = np.concatenate([(one @ one.T)[np.triu_indices(4, 1)] for one in vectors])
    different = np.concatenate([(one @ other.T).ravel() for one, other in itertools.combinations(vectors, 2)])
    print(
        f"CSIM on {len(vectors)} clips: same {same.mean():.3f} ± {same.std():.3f}, lowest {same.min():.3f}; "
        f"different {different.mean():.3f} ± {different.std():.3f}, highest {different.max():.3f}"
    )
    assert len(vectors) == 9
    assert same.mean() > 0.8
    assert abs(different.mean()) < 0.1
    assert same.min() > different.max() + 0.1
