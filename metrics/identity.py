"""Whether it is still the same person: face embeddings, their cosine (CSIM) and their distance (AED)."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from datamodules import assets
from datamodules.clips.manifest import file_sha256
from metrics.alignment import cut_aligned, fit_similarity
from metrics.arguments import check_images
from metrics.landmarks import ClipMean, find_landmarks
from metrics.reconstruction import as_uint8

MODEL = "mobilefacenet.onnx"
FACE_SIZE = 112
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eyes, nose tip and mouth corners (x, y) in a face of 112 pixels, first pixel's centre at 0; left is image left.

Source: Deng et al. 2019 (ArcFace), the template of its public code.
"""
_FIVE = ((33, 133), (362, 263), (4,), (61,), (291,))
"""Landmarks whose mean is each of the five points: eyes by their corners, which the gaze doesn't move."""
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]
_CHUNK = 32


class Embedder(Protocol):
    """Gives every face a vector.

    Attributes:
        name: Short name that results carry.
        sha256: Hash of the weights, part of the protocol hash.
    """

    name: str
    sha256: str

    def embed(self, frames: Tensor, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Unit vectors ``(T, D)`` of the faces in ``(T, 3, H, W)``; NaN without a face."""


def align_faces(frames: Tensor, landmarks: np.ndarray) -> Tensor:
    """Faces turned, scaled and shifted so that eyes, nose and mouth corners come closest to ArcFace's template.

    Args:
        frames: ``(T, 3, H, W)`` uint8.
        landmarks: ``(T, 478, 3)`` pixels, no NaN.

    Returns:
        ``(T, 3, 112, 112)`` float32 in 0..255.
    """
    five = np.stack([landmarks[:, points, :2].mean(axis=1) for points in _FIVE], axis=1)  # (T, 5, 2)
    return cut_aligned(frames, fit_similarity(five, ARCFACE_POINTS + 0.5), FACE_SIZE)


class FaceEmbedder:
    """MobileFaceNet through onnxruntime, on the CPU.

    Args:
        path: The ONNX file; looked for among the assets if left out.

    Attributes:
        name: ``mobilefacenet``, or the stem of another file.
        sha256: Hash of the file.

    Raises:
        MissingAssetError: The file is not there.
    """

    def __init__(self, path: Path | None = None) -> None:
        import onnxruntime

        found = assets.find(MODEL) if path is None else Path(path)
        self.name, self.sha256 = found.stem, file_sha256(found)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(found), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0]
        self._width = int(self._session.get_outputs()[0].shape[-1])

    def embed_faces(self, faces: Tensor) -> np.ndarray:
        """Embed aligned faces.

        Args:
            faces: ``(N, 3, 112, 112)`` RGB in 0..255.

        Returns:
            ``(N, D)`` float32 of length 1.
        """
        images = (faces.cpu().numpy().astype(np.float32) / 255 - _MEAN) / _STD
        fixed = self._input.shape[0]
        step = fixed if isinstance(fixed, int) else _CHUNK  # the public file takes one face at a time
        found = [
            self._session.run(None, {self._input.name: images[start : start + step]})[0]
            for start in range(0, len(images), step)
        ]
        vectors = np.concatenate(found) if found else np.empty((0, self._width), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed(self, frames: Tensor, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Embed the face of every frame.

        Args:
            frames: ``(T, 3, H, W)`` uint8 RGB, or float in [-1, 1].
            landmarks: ``(T, 478, 3)`` pixels where they are known already.

        Returns:
            ``(T, D)`` float32 of length 1; NaN where no face is found.

        Raises:
            MissingAssetError: Landmarks are not given and their model is absent.
        """
        points = find_landmarks(frames) if landmarks is None else landmarks
        known = np.isfinite(points).all(axis=(1, 2))
        vectors = self.embed_faces(align_faces(as_uint8(frames)[torch.from_numpy(known)], points[known]))
        embedded = np.full((len(frames), vectors.shape[1]), np.nan, dtype=np.float32)
        embedded[known] = vectors
        return embedded


def identity_similarity(embedder: Embedder, source: Tensor, frames: Tensor) -> np.ndarray:
    """Cosine of each frame's face embedding with that of the source.

    Args:
        embedder: Gives the embeddings.
        source: ``(3, H, W)`` uint8, or float in [-1, 1].
        frames: ``(T, 3, H, W)`` likewise.

    Returns:
        ``(T,)`` in [-1, 1]; NaN for frames without a face, for all if the source has none.
    """
    return embedder.embed(frames) @ embedder.embed(source[None])[0]


def embedding_distance(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Euclidean distance ``(T,)`` in [0, 2] of unit embeddings ``(T, D)`` of generated and real frames."""
    if generated.shape != real.shape:
        raise ValueError(f"embeddings of shape {generated.shape} against {real.shape}")
    return np.linalg.norm(generated - real, axis=1)


class CSIM(ClipMean):
    """Identity similarity: mean over clips of the mean cosine of source and frames. 1 is best.

    Args:
        embedder: MobileFaceNet if left out; with another one the result belongs beside another protocol hash.

    Attributes:
        faceless: Number of frames without a face (all frames of a clip whose source has none); left out of the mean.

    Raises:
        MissingAssetError: The embedder's file is not there.
    """

    higher_is_better = True

    def __init__(self, embedder: Embedder | None = None) -> None:
        super().__init__()
        self.embedder: Embedder = embedder or FaceEmbedder()

    def update(self, source: Tensor, frames: Tensor) -> None:
        """Add one clip.

        Args:
            source: ``(3, H, W)`` uint8, or float in [-1, 1].
            frames: ``(T, 3, H, W)`` likewise.

        Raises:
            ValueError: Images of another shape, type or range.
        """
        check_images(source, (3, "H", "W"), "source")
        check_images(frames, ("T", 3, "H", "W"), "frames")
        self.add(identity_similarity(self.embedder, source, frames))


class AED(ClipMean):
    """Average embedding distance of generated and real frame: mean over clips, unit embeddings, 0..2. 0 is best.

    Args:
        embedder: MobileFaceNet if left out.

    Raises:
        MissingAssetError: The embedder's file is not there.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        super().__init__()
        self.embedder: Embedder = embedder or FaceEmbedder()

    def update(self, generated: Tensor, real: Tensor) -> None:
        """Add one clip.

        Args:
            generated: ``(T, 3, H, W)`` uint8, or float in [-1, 1].
            real: Likewise; the size may be another.

        Raises:
            ValueError: Images of another shape, type or range, or not as many of both.
        """
        for frames in (generated, real):
            check_images(frames, ("T", 3, "H", "W"), "frames")
        if len(generated) != len(real):
            raise ValueError(f"{len(generated)} generated frames against {len(real)} real ones")
        self.add(embedding_distance(self.embedder.embed(generated), self.embedder.embed(real)))
