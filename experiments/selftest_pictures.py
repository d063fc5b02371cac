"""FID, KID and FVD in the self-test: the frames of all clips after a corruption against the frames as they were."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.video_judges import Judges
from metrics.fid import extract_features, frechet_distance, kernel_distances, mean_and_covariance
from metrics.fvd import FvdSettings

WINDOW = FvdSettings().length
EVERY = 5
"""Of so many frames one is shown to the Inception."""
WINDOWS = 3
"""Windows of a clip that I3D sees, at most: one after the other from the start."""


@dataclass(frozen=True)
class PictureFeatures:
    """What the networks of the picture judges say of one clip.

    Attributes:
        images: ``(N, D)`` features of every fifth frame; None without that judge.
        windows: ``(M, D)`` features of windows of 16 frames; None without that judge.
    """

    images: Tensor | None
    windows: Tensor | None


def picture_features(frames: Tensor, judges: Judges) -> PictureFeatures:
    """Show the frames ``(T, 3, H, W)`` uint8 of one clip to the networks that are there."""
    images = windows = None
    if judges.images is not None:
        shown = frames[::EVERY].split(32)
        images = torch.cat([extract_features(judges.images.network, part) for part in shown])
    if judges.windows is not None:
        starts = range(0, len(frames) - WINDOW + 1, WINDOW)[:WINDOWS]
        found = [extract_features(judges.windows.network, frames[None, at : at + WINDOW]) for at in starts]
        windows = torch.cat(found) if found else None
    return PictureFeatures(images, windows)


def picture_distances(
    real: Sequence[PictureFeatures], corrupted: Sequence[PictureFeatures]
) -> dict[str, float]:
    """``fid``, ``kid`` and ``fvd`` between all clips as they were and as they are, as far as their judges are there.

    So few frames give distances that compare with each other and with nothing else.
    """
    images = [_together([one.images for one in side]) for side in (real, corrupted)]
    windows = [_together([one.windows for one in side]) for side in (real, corrupted)]
    distances = {"fid": _frechet(*images), "fvd": _frechet(*windows)}
    if images[0] is not None and images[1] is not None:
        distances["kid"] = float(kernel_distances(images[0], images[1]).mean())
    return {name: value for name, value in distances.items() if value is not None}


def _together(features: Sequence[Tensor | None]) -> Tensor | None:
    found = [one for one in features if one is not None]
    return torch.cat(found) if found else None


def _frechet(real: Tensor | None, corrupted: Tensor | None) -> float | None:
    if real is None or corrupted is None or min(len(real), len(corrupted)) < 2:
        return None
    rank = min(len(real), len(corrupted)) - 1
    return float(frechet_distance(*mean_and_covariance(real), *mean_and_covariance(corrupted), rank))
