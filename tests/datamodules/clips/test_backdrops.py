"""Other backgrounds: they stand behind both frames alike, the person stays, and nothing else changes."""

import numpy as np
import torch

from datamodules.batches import FramePairBatch
from datamodules.clips.backdrops import draw_backdrop, replace_background

SIDE = 64


def pair(person: torch.Tensor, twin: bool = False) -> FramePairBatch:
    """White people on black, whose masks are ``person (2, 16, 16)``."""
    big = (
        person.nan_to_num().repeat_interleave(4, 1).repeat_interleave(4, 2)
        if person.shape[-1]
        else torch.ones(2, SIDE, SIDE)
    )
    source, driving = (2 * big - 1)[:, None].expand(2, 3, SIDE, SIDE)
    shown = torch.zeros(3, SIDE, SIDE) if twin else driving
    nothing = torch.zeros(2, 0)
    return FramePairBatch(
        source, driving, shown, torch.zeros(3, 4), nothing[..., None], nothing, nothing, person
    )


def masks() -> torch.Tensor:
    person = torch.zeros(2, 16, 16)
    person[0, 4:, 4:9], person[1, 4:, 6:11] = 1, 1
    return person


def test_the_backdrop_stands_behind_both_frames_and_the_person_stays():
    backdrop = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.5
    before = pair(masks())
    after = replace_background(before, backdrop)
    torch.testing.assert_close(after.source[:, :12, 48:], backdrop[:, :12, 48:])
    torch.testing.assert_close(after.driving[:, :12, 48:], backdrop[:, :12, 48:])
    torch.testing.assert_close(after.source[:, 20:, 20:32], before.source[:, 20:, 20:32])
    torch.testing.assert_close(after.driving[:, 20:, 28:40], before.driving[:, 20:, 28:40])
    assert torch.equal(after.shown, after.driving)
    assert torch.equal(after.person, before.person)


def test_a_twin_keeps_its_own_and_a_person_that_is_not_known_too():
    backdrop = torch.full((3, SIDE, SIDE), 0.3)
    twin = pair(masks(), twin=True)
    assert torch.equal(replace_background(twin, backdrop).shown, twin.shown)
    unknown, half_known = pair(torch.zeros(2, 0, 0)), pair(masks())
    half_known.person[1] = torch.nan
    for one in (unknown, half_known):
        assert all(
            torch.equal(a, b) for a, b in zip(replace_background(one, backdrop)[:3], one[:3], strict=True)
        )


def test_backdrops_are_pieces_of_the_frame_in_its_range_and_differ():
    frame = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    drawn = [draw_backdrop(frame, np.random.default_rng(seed)) for seed in (0, 1, 0)]
    assert torch.equal(drawn[0], drawn[2])
    assert (drawn[0] - drawn[1]).abs().mean() > 0.1
    for one in drawn:
        assert one.shape == frame.shape
        assert one.abs().max() <= 1
        assert (one[..., 1:] - one[..., :-1]).abs().mean() < (
            frame[..., 1:] - frame[..., :-1]
        ).abs().mean()  # enlarged
