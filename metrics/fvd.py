"""Windows of frames of all clips together: FVD, the distance between distributions of a network's features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from metrics.fid import FrechetInceptionDistance
from metrics.judges.inception import load_i3d


@dataclass(frozen=True)
class FvdSettings:
    """Which windows FVD is taken from."""

    windows: int = 2048  # their number; all there are if there are no more
    length: int = 16  # frames of a window
    seed: int = 0  # of the draw: the same lengths and seed give real and generated clips the same windows


def draw_windows(
    frames_per_clip: Sequence[int], settings: FvdSettings = FvdSettings()
) -> list[tuple[int, int]]:
    """Windows of consecutive frames for FVD, uniform over all there are, none twice.

    Args:
        frames_per_clip: Number of frames of each clip; those shorter than a window have none.
        settings: How many, how long, and the seed.

    Returns:
        Pairs of the clip's index and the window's first frame, sorted.

    Raises:
        ValueError: No clip is long enough.
    """
    windows = np.maximum(np.asarray(frames_per_clip, dtype=np.int64) - settings.length + 1, 0)
    ends = windows.cumsum()
    if not len(ends) or ends[-1] == 0:
        raise ValueError(f"no clip has the {settings.length} frames of a window")
    generator = np.random.default_rng(settings.seed)
    chosen = generator.choice(ends[-1], size=min(settings.windows, ends[-1]), replace=False)
    chosen.sort()
    clips = np.searchsorted(ends, chosen, side="right")
    starts = chosen - (ends - windows)[clips]
    return [(int(clip), int(start)) for clip, start in zip(clips, starts, strict=True)]


class FrechetVideoDistance(FrechetInceptionDistance):
    """FVD of windows ``(N, 16, 3, H, W)`` as StyleGAN-V's script gives it. 0 is best.

    Args:
        feature: Feature network; I3D from its TorchScript file if left out.
        settings: How long a window is.

    Raises:
        MissingAssetError: The file of I3D is not there.

    Source: Unterthiner et al. 2018; Skorokhodov et al. 2022 (StyleGAN-V).
    """

    def __init__(self, feature: nn.Module | None = None, settings: FvdSettings = FvdSettings()) -> None:
        super().__init__(load_i3d() if feature is None else feature, ("N", settings.length, 3, "H", "W"))
