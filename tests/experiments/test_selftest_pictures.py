"""FID, KID and FVD in the self-test, on networks of few features: no weights are needed."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.selftest_pictures import picture_distances, picture_features
from experiments.video_judges import Judges
from metrics.fid import FrechetInceptionDistance


class Fields(nn.Module):
    """Means of 2 x 2 fields of a picture: 12 features."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.float(), 2).flatten(1)


class WindowFields(Fields):
    def forward(self, windows: Tensor) -> Tensor:
        return super().forward(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]).mean(1)


def judges(images: bool = True, windows: bool = True) -> Judges:
    return Judges(
        lambda frames: None,
        images=SimpleNamespace(network=Fields()) if images else None,
        windows=SimpleNamespace(network=WindowFields()) if windows else None,
    )


def clips(frames: int = 60) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (frames, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(4)
    ]


def test_distances_rise_with_the_harm_and_are_nothing_without() -> None:
    real = [picture_features(frames, judges()) for frames in clips()]
    found = []
    for share in (0.0, 0.3, 0.9):
        dark = [(frames * (1 - share)).to(torch.uint8) for frames in clips()]
        found.append(picture_distances(real, [picture_features(frames, judges()) for frames in dark]))
    for name in ("fid", "kid", "fvd"):
        values = [one[name] for one in found]
        assert values[0] == pytest.approx(0, abs=1e-2 * values[1])
        assert values[0] < values[1] < values[2]
    fid = FrechetInceptionDistance(Fields())
    for frames in clips():
        fid.update(frames[::5], real=True)
        fid.update((frames[::5] * (1 - 0.9)).to(torch.uint8), real=False)
    assert found[2]["fid"] == pytest.approx(float(fid.compute()))


def test_only_the_judges_that_are_there_answer() -> None:
    def names(*there: bool, frames: int = 60) -> set[str]:
        features = [picture_features(one, judges(*there)) for one in clips(frames)]
        return set(picture_distances(features, features))

    assert names(True, True) == {"fid", "kid", "fvd"}
    assert names(True, False) == {"fid", "kid"}
    assert names(False, True) == {"fvd"}
    assert names(False, False) == set()
    assert names(True, True, frames=15) == {"fid", "kid"}  # no clip has a window
