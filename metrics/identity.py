"""Identity: cosine of face embeddings with the source's (CSIM), and, frame by frame, their distance (AED)."""

import numpy as np


def identity_similarity(source: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Cosine of each frame's face embedding with that of the source; its mean over the frames is CSIM.

    ``(T,)`` in [-1, 1] of embeddings ``(D,)`` and ``(T, D)`` of length 1 (`metrics.judges.face_embedder`); NaN for
    frames without a face, for all if the source has none.

    Raises:
        ValueError: The widths differ.
    """
    if source.shape != frames.shape[1:]:
        raise ValueError(f"embeddings of shape {frames.shape} against a source of {source.shape}")
    return frames @ source


def embedding_distance(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Euclidean distance ``(T,)`` in [0, 2] of unit embeddings ``(T, D)`` of generated and real frames; its mean is AED.

    Raises:
        ValueError: The shapes differ.
    """
    if generated.shape != real.shape:
        raise ValueError(f"embeddings of shape {generated.shape} against {real.shape}")
    return np.linalg.norm(generated - real, axis=1)
