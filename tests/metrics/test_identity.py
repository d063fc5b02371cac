"""Cosine and distance of face embeddings."""

import numpy as np
import pytest

from metrics.base import ClipMean
from metrics.identity import embedding_distance, identity_similarity

RED, GREEN, BOTH = (np.array(v) / np.linalg.norm(v) for v in ([1.0, 0, 0], [0.0, 1, 0], [1.0, 1, 0]))
NONE = np.full(3, np.nan)


def test_csim_is_the_mean_cosine_over_the_frames_with_a_face():
    metric = ClipMean(identity_similarity)
    metric.update(RED, np.stack([RED, BOTH, NONE]))
    assert float(metric.compute()) == pytest.approx((1 + np.sqrt(0.5)) / 2)
    metric.update(NONE, np.stack([RED, RED]))  # no face in the source: nothing can be said of the clip
    assert int(metric.clips) == 1
    with pytest.raises(ValueError, match="against a source"):
        metric.update(np.stack([RED, RED]), np.stack([RED, RED]))


def test_aed_is_the_distance_of_unit_vectors():
    metric = ClipMean(embedding_distance)
    metric.update(np.stack([RED, BOTH, NONE]), np.stack([GREEN, BOTH, RED]))
    assert float(metric.compute()) == pytest.approx(np.sqrt(2) / 2)
    with pytest.raises(ValueError, match="against"):
        metric.update(np.stack([RED, BOTH]), RED[None])
