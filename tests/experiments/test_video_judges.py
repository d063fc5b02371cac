"""The judges over all clips at once, on a network of few features: no weights are needed."""

import pytest
import torch
from torch import Tensor, nn

from experiments.video_judges import PooledImages, PooledWindows
from metrics.fid import FrechetInceptionDistance
from metrics.fvd import FrechetVideoDistance

WHO = ("anna", "anna", "ben", "cleo")


class Thumbnail(nn.Module):
    """Means of 2 x 2 fields of a picture or window: 12 features."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(images.flatten(0, -4).float(), 2).flatten(1)
        return pooled.unflatten(0, images.shape[:-3]).flatten(1, -2).mean(dim=1)


class Picture(Thumbnail):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images[:, None])


def clips(frames: int = 40) -> list[tuple[str, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for name in WHO:
        low = 40 * WHO.index(name)
        real, generated = (
            torch.randint(low, low + 90, (frames, 3, 8, 8), generator=generator, dtype=torch.uint8)
            for _ in range(2)
        )
        found.append((name, real, generated // 2))
    return found


def test_frames_of_all_clips_have_an_interval_by_identity_and_a_floor():
    judge, plain, fid = PooledImages(Picture()), PooledImages(Picture()), FrechetInceptionDistance(Picture())
    for name, real, generated in clips():
        for frames, row in ((real, "real"), (generated, "generated")):
            judge.update(frames, row, identity=name)
            plain.update(frames, row)
            fid.update(frames, real=row == "real")
    values, remarks = judge.compute()
    assert values["fid"].value == pytest.approx(float(fid.compute()))
    for name in ("fid", "kid"):
        assert values[name].low < values[name].value < values[name].high
        assert values[name].n == values[f"{name}_floor"].n == 4
        assert values[f"{name}_floor"].low is None
    assert remarks[0] == "fid, kid: 160 real and 160 generated frames, too few (under 2048)"
    assert "two halves of disjoint people" in remarks[1]
    nobody, remarks = plain.compute()
    assert nobody["fid"].value == pytest.approx(values["fid"].value)
    assert nobody["fid"].low is None
    assert 0 < nobody["fid_floor"].value < values["fid_floor"].value  # the same people in both halves
    assert "clips of the only identity" in remarks[1]


def test_windows_of_all_clips_have_an_interval_by_identity_and_a_floor():
    judge, fvd = PooledWindows(Thumbnail()), FrechetVideoDistance(Thumbnail())
    starts = [0, 5, 9, 20, 24, 30]  # the last goes beyond the end
    for name, real, generated in clips():
        for frames, row in ((real, "real"), (generated, "generated")):
            judge.update(frames, starts, row, identity=name)
            judge.update(frames, [], row, identity="nobody")
            for start in starts[:-1]:
                fvd.update(frames[None, start : start + 16], real=row == "real")
    values, remarks = judge.compute()
    assert values["fvd"].value == pytest.approx(float(fvd.compute()))
    assert values["fvd"].low < values["fvd"].value < values["fvd"].high
    assert values["fvd_floor"].value > 0
    assert remarks[0] == "fvd: 20 real and 20 generated windows, too few (under 2048)"


def test_a_single_clip_has_no_floor():
    judge = PooledImages(Picture())
    _, real, generated = clips()[0]
    judge.update(real, "real")
    judge.update(generated, "generated")
    values, _ = judge.compute()
    assert values["fid"].value > 0
    assert (values["fid_floor"].value, values["kid_floor"].value) == (None, None)


def test_rows_and_takes_are_compared_each_by_itself():
    judge, single = PooledImages(Picture()), PooledImages(Picture())
    for name, real, generated in clips():
        for each in (judge, single):
            each.update(real, "real", name)
            each.update(generated, "generated", name)
        judge.update(generated, "generated", name, take=1)
        judge.update(real, "codec", name)
    (values, remarks), (alone, _) = judge.compute(), single.compute()
    assert values["fid"].value == pytest.approx(alone["fid"].value)  # twice the frames are no better
    assert values["kid"].value == pytest.approx(alone["kid"].value)
    assert values["fid_codec"].value == pytest.approx(0, abs=1e-6)
    assert set(values) == {"fid", "fid_codec", "fid_floor", "kid", "kid_codec", "kid_floor"}
    assert remarks[0] == "fid, kid: 160 real and 160 generated frames of each take, too few (under 2048)"


def test_a_row_that_some_clips_lack_is_not_held_against_all():
    judge = PooledImages(Picture())
    for number, (name, real, generated) in enumerate(clips()):
        judge.update(real, "real", name)
        judge.update(generated, "generated", name)
        if number:
            judge.update(generated, "autoencoder", name)
    values, _ = judge.compute()
    assert values["fid"].n == 4
    assert (values["fid_autoencoder"].value, values["kid_autoencoder"].value) == (None, None)
