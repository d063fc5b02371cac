"""Lids of a portrait: skin is drawn down over the eye as far as its motion says, and nothing else is touched."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import assets
from datamodules.assets import MissingAssetError
from datamodules.faces import landmarks
from datamodules.faces.landmarks import FaceMeasurements, measure_landmarks
from datamodules.media.pictures import to_float
from lightning_modules.generation import lids
from lightning_modules.generation.lids import (
    BROW,
    LOWER,
    SHUT,
    UPPER,
    find_lids,
    how_far_shut,
    with_lids_shut,
)
from lightning_modules.generation.talking_head import TalkingHead

SIZE = 128
SKIN, EYE = 0.5, -0.8
CENTRES = (44.0, 56.0), (84.0, 56.0)
"""Of the eyes, x and y in pixels; each is an ellipse of 20 by 10, its brow 14 above the corners."""


def points() -> np.ndarray:
    """Landmarks ``(478, 3)`` in [0, 1] of a face with two level eyes."""
    found = np.full((478, 3), 0.5)
    for (x, y), upper, lower, brow in zip(CENTRES, UPPER, LOWER, BROW, strict=True):
        outwards = -1 if x < SIZE / 2 else 1  # the first landmark is the outer corner
        for indices, rise in ((upper, -5), (lower, 5)):
            angle = np.linspace(0, np.pi, len(indices))
            found[list(indices), 0] = x + outwards * 10 * np.cos(angle)
            found[list(indices), 1] = y + rise * np.sin(angle)
        found[list(brow), 0] = x + np.linspace(-12, 12, len(brow))
        found[list(brow), 1] = y - 14
    found[:, :2] /= SIZE
    return found.astype(np.float32)


@pytest.fixture
def picture() -> Tensor:
    """Skin with two dark eyes ``(1, 3, 128, 128)``."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    eyes = [((columns - x) / 10) ** 2 + ((rows - y) / 5) ** 2 < 1 for x, y in CENTRES]
    return torch.from_numpy(np.where(eyes[0] | eyes[1], EYE, SKIN)).float().expand(1, 3, -1, -1)


@pytest.fixture
def seen(monkeypatch) -> None:
    found = FaceMeasurements(points()[None], np.zeros((1, 3), np.float32), np.zeros(1, np.float32))
    monkeypatch.setattr(lids, "measure_landmarks", lambda frames: found)


def test_skin_comes_down_over_the_eyes_and_nothing_else_is_touched(picture, seen):
    eyes = find_lids(picture[0], picture)
    shut = with_lids_shut(picture, eyes, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(shut[0], picture[0], atol=1e-5, rtol=0)
    for x, y in CENTRES:
        column = shut[:, 0, :, int(x)]
        assert (column[1, int(y) - 4 : int(y) - 1] > 0).all()  # half shut: the upper half of the eye is skin
        assert (column[1, int(y) + 2 : int(y) + 4] < 0).all()
    dark = [int((one[0] < 0).sum()) for one in shut]
    assert dark[1] < 0.7 * dark[0]
    assert dark[2] < 0.1 * dark[0]
    below = slice(int(CENTRES[0][1]) + 7, None)
    torch.testing.assert_close(shut[:, :, below], picture[:, :, below].expand(3, -1, -1, -1))
    torch.testing.assert_close(shut[:, :, :40], picture[:, :, :40].expand(3, -1, -1, -1))


def test_a_portrait_of_more_pixels_has_the_same_eyes(picture, seen):
    large = torch.nn.functional.interpolate(picture, scale_factor=2, mode="nearest")
    shut = with_lids_shut(large, find_lids(picture[0], large), torch.ones(1))
    assert (shut < 0).sum() < 0.1 * (large < 0).sum()


def test_lids_are_shut_by_how_far_they_are_from_where_they_usually_are():
    eyes = torch.full((40,), 1.5)
    eyes[10:13] = torch.tensor([2.0, 1.5 + SHUT, 9.0])
    shut = how_far_shut(eyes)
    assert shut[10:13].tolist() == [0, 1, 1]
    assert shut.count_nonzero() == 2
    assert not how_far_shut(eyes[:1]).any()


@pytest.mark.parametrize("reason", ["no face", "no model"])
def test_where_no_lids_are_seen_nothing_is_done(picture, monkeypatch, reason):
    def look(frames):
        if reason == "no model":
            raise MissingAssetError("not there")
        return FaceMeasurements(*(np.full((1, *shape), np.nan) for shape in ((478, 3), (3,), ())))

    monkeypatch.setattr(lids, "measure_landmarks", look)
    assert find_lids(picture[0], picture) == ()


def test_a_photograph_blinks():
    """MediaPipe's score of it; without its lids, by the shipped renderer alone, it hardly changes."""
    try:
        assets.find(landmarks.MODEL)
    except MissingAssetError as missing:
        pytest.skip(str(missing))
    from skimage.data import astronaut

    portrait = to_float(astronaut()[20:190, 135:305])
    model = TalkingHead.from_pretrained("synthetic-256", hears=False)
    source = model.prepare_source(portrait, 256)
    coordinates = model.basis.encode(source.motion).repeat(9, 1)
    coordinates[4, model.basis.blocks["eyes"]] += 4
    motion = model.basis.coefficients(coordinates)
    frames = [np.stack(list(model.render(one, motion))) for one in (source, source._replace(eyes=()))]
    blink, alone = (measure_landmarks(one[3:5]).blink for one in frames)
    assert blink[1] > blink[0] + 0.3
    assert alone[1] < alone[0] + 0.2
    np.testing.assert_array_equal(frames[0][:4], frames[1][:4])  # lids that are open are left alone
