"""A vector for every face: MobileFaceNet on faces that are aligned as ArcFace aligns them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules import assets
from datamodules.clips.manifest import file_sha256
from metrics.alignment import cut_aligned, fit_similarity
from metrics.checks import as_uint8
from metrics.landmarks import find_landmarks

MODEL = "mobilefacenet.onnx"
_CHUNK = 32


@dataclass(frozen=True)
class AlignmentSettings:
    """How faces are aligned and scaled before they are embedded."""

    size: int = 112  # side of a face in pixels
    # five points (x, y) in it, the first pixel's centre at 0. Source: the public code of Deng et al. 2019 (ArcFace)
    template: tuple[tuple[float, float], ...] = (
        (38.2946, 51.6963),  # eye on the image's left
        (73.5318, 51.5014),  # and on the right
        (56.0252, 71.7366),  # nose tip
        (41.5493, 92.3655),  # mouth corner on the image's left
        (70.7299, 92.2041),  # and on the right
    )
    # landmarks whose mean is each of them: eyes by their corners, which the gaze doesn't move
    points: tuple[tuple[int, ...], ...] = ((33, 133), (362, 263), (4,), (61,), (291,))
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of red, green and blue in [0, 1], taken off
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # of them, divided by


def align_faces(
    frames: Tensor, landmarks: np.ndarray, settings: AlignmentSettings = AlignmentSettings()
) -> Tensor:
    """Faces turned, scaled and shifted so that eyes, nose and mouth corners come closest to ArcFace's template.

    ``(T, 3, 112, 112)`` float32 in 0..255, of frames ``(T, 3, H, W)`` uint8 and landmarks ``(T, 478, 3)`` in pixels without
    NaN.
    """
    five = [landmarks[:, points, :2].mean(axis=1) for points in settings.points]
    found = fit_similarity(np.stack(five, axis=1), np.array(settings.template) + 0.5)
    return cut_aligned(frames, found, settings.size)


def onnx_session(path: Path) -> Any:
    """A session of onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class FaceEmbedder:
    """MobileFaceNet through onnxruntime, on the CPU.

    Its ``name`` is the file's stem, its ``sha256`` the file's hash.

    Args:
        path: The ONNX file; looked for among the assets if left out.
        settings: How faces are aligned.
        open_session: Opens the file.
        find: Finds landmarks where none are given.

    Raises:
        MissingAssetError: The file is not there.
    """

    def __init__(
        self,
        path: Path | None = None,
        settings: AlignmentSettings = AlignmentSettings(),
        open_session: Callable[[Path], Any] = onnx_session,
        find: Callable[[Tensor], np.ndarray] = find_landmarks,
    ) -> None:
        found = assets.find(MODEL) if path is None else Path(path)
        self.name, self.sha256 = found.stem, file_sha256(found)
        self.settings, self._find = settings, find
        self._session = open_session(found)
        self._input = self._session.get_inputs()[0]
        self._width = int(self._session.get_outputs()[0].shape[-1])

    def embed_faces(self, faces: Tensor) -> np.ndarray:
        """Embed aligned faces ``(N, 3, 112, 112)`` RGB in 0..255: ``(N, D)`` float32 of length 1."""
        mean, std = np.array([self.settings.mean, self.settings.std], dtype=np.float32)[..., None, None]
        images = (faces.cpu().numpy().astype(np.float32) / 255 - mean) / std
        fixed = self._input.shape[0]
        step = fixed if isinstance(fixed, int) else _CHUNK  # the public file takes one face at a time
        found = [
            self._session.run(None, {self._input.name: images[start : start + step]})[0]
            for start in range(0, len(images), step)
        ]
        vectors = np.concatenate(found) if found else np.empty((0, self._width), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed(self, frames: Tensor, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Embed the face of every frame: ``(T, D)`` float32 of length 1; NaN where no face is found.

        Args:
            frames: ``(T, 3, H, W)`` uint8 RGB, or float in [-1, 1].
            landmarks: ``(T, 478, 3)`` pixels where they are known already.

        Raises:
            MissingAssetError: Landmarks are not given and their model is absent.
        """
        points = self._find(frames) if landmarks is None else landmarks
        known = np.isfinite(points).all(axis=(1, 2))
        shown = as_uint8(frames)[torch.from_numpy(known)]
        vectors = self.embed_faces(align_faces(shown, points[known], self.settings))
        embedded = np.full((len(frames), vectors.shape[1]), np.nan, dtype=np.float32)
        embedded[known] = vectors
        return embedded
