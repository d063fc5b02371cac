"""Whether it is still the same person: cosine (CSIM) and distance (AED) of face embeddings."""

import numpy as np
from torch import Tensor

from metrics.arguments import check_images
from metrics.judges.face_embedder import Embedder, FaceEmbedder
from metrics.landmarks import ClipMean


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
