"""Deformed pairs: pictures and all that is known of them move alike, and back again."""

import numpy as np
import pytest
import torch

from datamodules.batches import POSE_NAMES, FramePairBatch
from datamodules.clips.deformation import BENDS, Deformation, deform_pair, degrade_pair
from datamodules.clips.frame_pairs import POSE_CENTRE, POSE_SPREAD

SIDE = 96
STRAIGHT = torch.zeros(2, BENDS, BENDS)


def drawn(seed: int = 0) -> Deformation:
    return Deformation.draw(np.random.default_rng(seed))


def spots(places: torch.Tensor) -> torch.Tensor:
    """One picture ``(L, 3, S, S)`` a place ``(L, 2)``: a bright spot there."""
    centres = (torch.arange(SIDE) + 0.5) / SIDE
    x, y = places[:, 0, None, None], places[:, 1, None, None]
    squared = (centres[None, None, :] - x) ** 2 + (centres[None, :, None] - y) ** 2
    return (2 * torch.exp(-squared / (2 * 0.02**2)) - 1)[:, None].expand(-1, 3, -1, -1)


def found(pictures: torch.Tensor) -> torch.Tensor:
    """Where the spots are."""
    weights = (pictures[:, 0] + 1).clamp(min=0.2) - 0.2
    centres = (torch.arange(SIDE) + 0.5) / SIDE
    total = weights.sum(dim=(1, 2))
    return (
        torch.stack([(weights.sum(1) * centres).sum(1), (weights.sum(2) * centres).sum(1)], dim=1)
        / total[:, None]
    )


@pytest.mark.parametrize("seed", range(4))
def test_points_go_where_the_picture_goes(seed: int) -> None:
    places = torch.rand(12, 2, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.3
    deformation = drawn(seed)
    moved = deformation.image(places)
    assert (moved - places).abs().max() > 0.01
    torch.testing.assert_close(found(deformation.pictures(spots(places))), moved, atol=2e-3, rtol=0)
    torch.testing.assert_close(deformation.origin(moved), places, atol=1e-3, rtol=0)


def test_turns_are_clockwise_and_shifts_are_of_what_is_seen() -> None:
    above = torch.tensor([[0.5, 0.2]])
    quarter = Deformation(90.0, 1.0, torch.zeros(2), STRAIGHT)
    torch.testing.assert_close(quarter.image(above), torch.tensor([[0.8, 0.5]]))  # to the right
    shifted = Deformation(0.0, 1.0, torch.tensor([0.1, 0.0]), STRAIGHT)
    torch.testing.assert_close(shifted.image(above), above + torch.tensor([0.1, 0.0]))
    nearer = Deformation(0.0, 2.0, torch.zeros(2), STRAIGHT)
    torch.testing.assert_close(nearer.image(torch.tensor([[0.5, 0.4]])), torch.tensor([[0.5, 0.3]]))
    still = Deformation(0.0, 1.0, torch.zeros(2), STRAIGHT)
    frames = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(still.pictures(frames), frames, atol=1e-4, rtol=0)


def pair() -> FramePairBatch:
    generator = torch.Generator().manual_seed(1)
    landmarks = torch.rand(2, 6, 2, generator=generator) * 0.3 + 0.35
    landmarks[1, 5] = torch.nan
    box = torch.tensor([0.4, 0.5, 0.6, 0.7])
    return FramePairBatch(
        source=spots(landmarks[0, :1])[0],
        driving=spots(landmarks[1, :1])[0],
        shown=spots(landmarks[1, :1])[0],
        regions=torch.stack([box, torch.zeros(4), box / 2 + 0.2]),
        landmarks=landmarks,
        pose=torch.zeros(2, len(POSE_NAMES)),
        visible=torch.ones(2, 6),
        person=torch.stack([torch.full((64, 64), torch.nan), torch.ones(64, 64)]),
    )


def test_all_that_is_known_of_a_pair_follows() -> None:
    before, deformation = pair(), Deformation(15.0, 1.1, torch.tensor([0.02, -0.03]), STRAIGHT)
    after = deform_pair(before, deformation, POSE_CENTRE, POSE_SPREAD)
    for frame, side in ((after.source, 0), (after.driving, 1)):
        torch.testing.assert_close(found(frame[None]), after.landmarks[side, :1], atol=3e-3, rtol=0)
    assert after.landmarks[1, 5].isnan().all()
    assert after.landmarks[:, :5].isfinite().all()
    assert not after.regions[1].any()  # unknown
    inside = deformation.image(torch.tensor([[0.5, 0.6]]))[0]
    assert (after.regions[0, :2] < inside).all()
    assert (inside < after.regions[0, 2:]).all()
    roll, x = POSE_NAMES.index("roll"), POSE_NAMES.index("shift_x")
    assert after.pose[0, roll] == pytest.approx(15 / float(POSE_SPREAD[roll]))
    middle = torch.from_numpy(POSE_CENTRE[x : x + 2])
    expected = (deformation.image(middle[None])[0] - middle) / torch.from_numpy(POSE_SPREAD[x : x + 2])
    torch.testing.assert_close(after.pose[1, x : x + 2], expected)
    others = [k for k in range(len(POSE_NAMES)) if k not in (roll, x, x + 1)]
    assert not after.pose[:, others].any()
    assert after.person[0].isnan().all()
    torch.testing.assert_close(after.person[1], torch.ones(64, 64))
    empty = {"landmarks": torch.zeros(2, 0, 2), "visible": torch.zeros(2, 0), "pose": torch.zeros(2, 0)}
    nothing = before._replace(person=torch.zeros(2, 0, 0), **empty)
    assert deform_pair(nothing, deformation, POSE_CENTRE, POSE_SPREAD).person.shape == (2, 0, 0)


def test_a_worse_camera_blurs_both_alike_and_what_is_read_more() -> None:
    sharp = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    before = pair()._replace(source=sharp, driving=-sharp, shown=-sharp)
    after = [degrade_pair(before, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 6))]
    assert torch.equal(after[0].shown, after[1].shown)
    assert not torch.equal(after[0].shown, after[2].shown)
    for one in after:
        assert all(frame.abs().max() <= 1 for frame in (one.source, one.driving, one.shown))
        torch.testing.assert_close(one.driving, -one.source)  # by the same blur
        assert (one.shown - one.driving).std() > 0.01  # noise, and JPEG
    spreads = [float(one.source.std() / sharp.std()) for one in after]
    assert min(spreads) < 0.6 < max(spreads)
