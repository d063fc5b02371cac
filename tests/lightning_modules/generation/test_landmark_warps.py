"""Lids and lips of a portrait: skin is drawn over eyes and teeth, and nothing else is touched."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import assets
from datamodules.assets import MissingAssetError
from datamodules.faces import landmarks
from datamodules.faces.landmarks import FaceMeasurements, measure_landmarks
from datamodules.media.pictures import to_float, to_pixels
from lightning_modules.generation import landmark_warps
from lightning_modules.generation.landmark_warps import (
    BROW,
    CHIN,
    LOWER_LID,
    LOWER_LIP,
    NOSE,
    SHUT,
    UPPER_LID,
    UPPER_LIP,
    eyes_at,
    find_points,
    how_far_shut,
    with_lids_shut,
    with_lips_shut,
)
from lightning_modules.generation.talking_head import TalkingHead
from metrics.judges.landmark_judge import curves_of

SIZE = 128
SKIN, EYE = 0.5, -0.8
CENTRES = (44.0, 56.0), (84.0, 56.0)
"""Of the eyes, x and y in pixels; each is an ellipse of 20 by 10, its brow 20 above the corners."""


def points() -> np.ndarray:
    """Landmarks ``(478, 2)`` in [0, 1] of a face with two level eyes and an open mouth."""
    found = np.full((478, 2), 0.5)
    for (x, y), upper, lower, brow in zip(CENTRES, UPPER_LID, LOWER_LID, BROW, strict=True):
        outwards = -1 if x < SIZE / 2 else 1  # the first landmark is the outer corner
        for indices, rise in ((upper, -5), (lower, 5)):
            angle = np.linspace(0, np.pi, len(indices))
            found[list(indices), 0] = x + outwards * 10 * np.cos(angle)
            found[list(indices), 1] = y + rise * np.sin(angle)
        found[list(brow), 0], found[list(brow), 1] = x + np.linspace(-12, 12, len(brow)), y - 20
    for indices, rise in ((UPPER_LIP, -3), (LOWER_LIP, 7)):
        angle = np.linspace(0, np.pi, len(indices))
        found[list(indices), 0], found[list(indices), 1] = 64 - 16 * np.cos(angle), 94 + rise * np.sin(angle)
    found[NOSE, :2], found[CHIN, :2] = (64, 78), (64, 122)
    return found[:, :2] / SIZE


@pytest.fixture
def picture() -> Tensor:
    """Skin with two dark eyes ``(1, 3, 128, 128)``."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    eyes = [((columns - x) / 10) ** 2 + ((rows - y) / 5) ** 2 < 1 for x, y in CENTRES]
    return torch.from_numpy(np.where(eyes[0] | eyes[1], EYE, SKIN)).float().expand(1, 3, -1, -1)


def test_skin_comes_down_over_the_eyes_and_nothing_else_is_touched(picture):
    eyes = eyes_at(points(), picture)
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
    torch.testing.assert_close(shut[:, :, :36], picture[:, :, :36].expand(3, -1, -1, -1))


def test_a_portrait_of_more_pixels_has_the_same_eyes(picture):
    large = torch.nn.functional.interpolate(picture, scale_factor=2, mode="nearest")
    shut = with_lids_shut(large, eyes_at(points(), large), torch.ones(1))
    assert (shut < 0).sum() < 0.1 * (large < 0).sum()


def test_rims_of_glasses_are_not_drawn_over_the_eyes(picture):
    rim = slice(int(CENTRES[0][1]) - 15, int(CENTRES[0][1]) - 13)
    worn = picture.clone()
    worn[:, :, rim] = -0.9
    shut = with_lids_shut(worn, eyes_at(points(), worn), torch.ones(1))
    torch.testing.assert_close(shut[:, :, rim], worn[:, :, rim], atol=0.05, rtol=0)
    for x, y in CENTRES:
        assert (shut[:, 0, int(y) - 4 : int(y) + 5, int(x)] > 0).all()


def test_lids_are_shut_by_how_far_they_are_from_where_they_usually_are():
    eyes = torch.full((40,), 1.5)
    eyes[10:13] = torch.tensor([2.0, 1.5 + SHUT, 9.0])
    shut = how_far_shut(eyes)
    assert shut[10:13].tolist() == [0, 1, 1]
    assert shut.count_nonzero() == 2
    assert not how_far_shut(eyes[:1]).any()


def test_lips_meet_over_the_teeth_and_nose_and_chin_stay():
    rows = np.mgrid[:SIZE, :SIZE][0] + 0.5
    face = torch.from_numpy(np.linspace(-0.5, 0.5, SIZE)[:, None].repeat(SIZE, 1)).float()  # darker above
    columns = np.mgrid[:SIZE, :SIZE][1] + 0.5
    inside = np.abs(columns - 64) < 16
    curve = np.sqrt((1 - ((columns - 64) / 16) ** 2).clip(min=0))
    teeth = torch.from_numpy(inside & (rows > 94 - 3 * curve) & (rows < 94 + 7 * curve))
    portrait = torch.where(teeth, 1.0, face).expand(1, 3, -1, -1)
    shut = with_lips_shut(portrait, points())
    assert (shut > 0.8).sum() < 0.1 * (portrait > 0.8).sum()
    torch.testing.assert_close(shut[:, :, :77], portrait[:, :, :77], atol=1e-5, rtol=0)
    torch.testing.assert_close(shut[:, :, 123:], portrait[:, :, 123:], atol=1e-5, rtol=0)
    torch.testing.assert_close(shut[..., :42], portrait[..., :42], atol=1e-5, rtol=0)
    closed = points()
    closed[list(LOWER_LIP)] = closed[list(UPPER_LIP)]
    assert with_lips_shut(portrait, closed) is portrait


@pytest.mark.parametrize("reason", ["no face", "no model"])
def test_where_no_lids_are_seen_nothing_is_done(picture, monkeypatch, reason):
    def look(frames):
        if reason == "no model":
            raise MissingAssetError("not there")
        return FaceMeasurements(*(np.full((1, *shape), np.nan) for shape in ((478, 3), (3,), ())))

    monkeypatch.setattr(landmark_warps, "measure_landmarks", look)
    assert find_points(picture) is None


def test_a_photograph_blinks():
    """MediaPipe's score of it; without its lids, by the shipped renderer alone, it hardly changes."""
    try:
        assets.find(landmarks.MODEL)
    except MissingAssetError as missing:
        pytest.skip(str(missing))
    from skimage.data import astronaut

    portrait = to_float(astronaut()[20:190, 135:305])
    model = TalkingHead.from_pretrained("synthetic-256", hears=False)
    source = model.prepare_source(portrait, 256, lids=True)
    coordinates = model.basis.encode(source.motion).repeat(9, 1)
    coordinates[4, model.basis.blocks["eyes"]] += 4
    motion = model.basis.coefficients(coordinates)
    frames = [np.stack(list(model.render(one, motion))) for one in (source, source._replace(eyes=()))]
    blink, alone = (measure_landmarks(one[3:5]).blink for one in frames)
    assert blink[1] > blink[0] + 0.3
    assert alone[1] < alone[0] + 0.2
    np.testing.assert_array_equal(frames[0][:4], frames[1][:4])  # lids that are open are left alone
    speaking = model.prepare_source(portrait, 256, shut_lips=True)
    gaps = [
        curves_of(measure_landmarks(to_pixels(one.image)), 256, 256).lip_opening for one in (source, speaking)
    ]
    assert gaps[1] < 0.05 < 0.1 < gaps[0]  # she smiles, and shows her teeth
