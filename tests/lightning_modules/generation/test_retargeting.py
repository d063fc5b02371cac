"""Motion of a driver for a portrait: the plain change, and lips and lids counted from where both faces have them shut."""

import copy

import pytest
import torch
from torch import Tensor

from lightning_modules.generation.retargeting import (
    LIP_UNIT,
    SeenFace,
    relative_motion,
    retargeted_motion,
    trial_turns,
    turned_as_seen,
)
from lightning_modules.networks.motion_basis import MotionBasis, fit_motion_basis

DIM = 8
FRAMES = 400


@pytest.fixture(scope="module")
def faces() -> dict[str, Tensor]:
    """Raw motion of many frames, of which lips, lids and yaw are linear readouts."""
    generator = torch.Generator().manual_seed(0)
    lips = torch.rand(FRAMES, generator=generator).square()
    lids = (torch.rand(FRAMES, generator=generator) < 0.1).float()
    yaw = torch.randn(FRAMES, generator=generator)
    mixing = 0.1 * torch.randn(3, DIM, generator=generator)
    noise = 0.01 * torch.randn(FRAMES, DIM, generator=generator)
    motion = torch.stack([yaw, lips, lids], dim=1) @ mixing + noise
    return {"motion": motion, "yaw": yaw, "lip_opening": lips, "blink": lids, "mixing": mixing}


@pytest.fixture(scope="module")
def basis(faces) -> MotionBasis:
    return fit_motion_basis(faces["motion"], {name: faces[name] for name in ("yaw", "lip_opening", "blink")})


def told(faces: dict[str, Tensor], motion: Tensor) -> Tensor:
    """Yaw, lips and lids ``(T, 3)`` of motion."""
    return torch.linalg.lstsq(faces["mixing"].t(), motion.t()).solution.t()


def driver(faces: dict[str, Tensor], lips: Tensor, lids: Tensor, yaw: Tensor) -> Tensor:
    return torch.stack([yaw, lips, lids], dim=1) @ faces["mixing"]


def test_relative_motion_is_the_change_added_to_the_portraits_own():
    motion, own = (
        0.1 * torch.randn(20, 20, generator=torch.Generator().manual_seed(0)),
        torch.full((1, 20), 0.25),
    )
    moved = relative_motion(motion, own)
    torch.testing.assert_close(moved[:1], own)
    torch.testing.assert_close(moved - own, motion - motion[:1])
    assert relative_motion(motion, own + 0.75).max() == 1


def test_a_drivers_shut_lips_and_open_lids_are_the_portraits_whatever_its_first_frame_shows(faces, basis):
    time = torch.linspace(0, 6.28, 40)
    lips = 0.4 + 0.4 * torch.cos(time)  # wide open at first
    lids = (torch.arange(40) < 4).float()  # shut at first
    yaw = torch.linspace(1, 2, 40)
    smiling = driver(faces, torch.tensor([0.5]), torch.zeros(1), torch.tensor([-1.0]))  # with open lips
    motion = driver(faces, lips, lids, yaw)
    plain, moved = (
        told(faces, found)
        for found in (relative_motion(motion, smiling), retargeted_motion(motion, smiling, basis))
    )
    assert plain[:, 1].min() < -0.2  # lips pressed through each other
    assert abs(moved[:, 1].min()) < 0.1
    assert torch.corrcoef(torch.stack([moved[:, 1], lips]))[0, 1] > 0.99
    assert abs(moved[:, 1].max() - moved[:, 1].min() - 0.8) < 0.05
    assert plain[20, 2] < -0.8  # lids torn open
    assert moved[:4, 2].min() > 0.8
    assert moved[10:, 2].abs().max() < 0.15
    torch.testing.assert_close(moved[:, 0], yaw - 2, atol=0.15, rtol=0)  # the head: its change


def test_a_driver_as_the_portrait_itself_moves_it_as_it_moves(faces, basis):
    lips, lids = 0.9 * torch.rand(60, generator=torch.Generator().manual_seed(1)), torch.zeros(60)
    lips[:6] = 0.0
    motion = driver(faces, lips, lids, torch.linspace(0, 1, 60))
    moved = told(faces, retargeted_motion(motion, motion[:1], basis))
    torch.testing.assert_close(moved, told(faces, motion), atol=0.1, rtol=0)


def test_small_lips_and_lids_that_hardly_shut_are_enlarged_and_silence_is_not(faces, basis):
    """As people's are read by an encoder that has seen drawn heads alone."""
    time = torch.linspace(0, 12.6, 80)
    lips, lids = 0.2 + 0.1 * torch.cos(time), torch.zeros(80)
    lids[40:43] = 0.7
    still, yaw = torch.zeros(80), torch.zeros(80)
    rest = driver(faces, torch.zeros(1), torch.zeros(1), torch.zeros(1))
    moved = told(faces, retargeted_motion(driver(faces, lips, lids, yaw), rest, basis))
    assert 1.5 < (moved[:, 1].max() - moved[:, 1].min()) / 0.2 < 1.65
    assert abs(moved[:, 1].min()) < 0.05
    assert 0.85 < moved[40:43, 2].mean() < 1.15
    silent = told(faces, retargeted_motion(driver(faces, still + 0.2, 0.1 * lids, yaw), rest, basis))
    assert silent[:, 1].abs().max() < 0.05
    assert silent[:, 2].max() < 0.1


def test_what_is_read_of_silent_lips_is_not_enlarged(faces, basis):
    """A tracked face is never quite still: a sixteenth of the spread of speech, and then a half."""
    rest = driver(faces, torch.zeros(1), torch.zeros(1), torch.zeros(1))
    noise, still = torch.randn(80, generator=torch.Generator().manual_seed(2)), torch.zeros(80)
    for share, low, high in ((1 / 16, 0.95, 1.05), (0.5, 1.5, 1.65)):
        lips = 0.2 + share * faces["lip_opening"].std() * noise
        moved = told(faces, retargeted_motion(driver(faces, lips, still, still), rest, basis))
        assert low < moved[:, 1].std() / lips.std() < high


def test_without_blocks_it_is_the_plain_change(faces):
    motion, own = faces["motion"][:20], faces["motion"][30:31]
    torch.testing.assert_close(retargeted_motion(motion, own, MotionBasis(DIM)), relative_motion(motion, own))


def test_lips_and_lids_that_the_landmarker_sees_count_more_than_what_is_read(faces, basis):
    """Of a photograph hardly anything is read; a unit is what opens drawn lips by their usual spread."""
    still, yaw = torch.zeros(60), torch.linspace(0, 1, 60)
    motion, own = (
        driver(faces, 0.02 * yaw, still, yaw),
        driver(faces, torch.zeros(1), torch.zeros(1), torch.zeros(1)),
    )
    opening, blink = 0.3 + 2 * LIP_UNIT * (yaw > 0.5), torch.full((60,), 0.2)
    blink[30:33] = 0.6
    moved = told(faces, retargeted_motion(motion, own, basis, SeenFace(opening, blink, torch.zeros(60, 5))))
    unit = faces["lip_opening"].std()
    torch.testing.assert_close(moved[-1, 1] - moved[0, 1], 2 * unit, atol=0.3 * unit.item(), rtol=0)
    assert moved[31, 2] - moved[:30, 2].max() > 0.7
    torch.testing.assert_close(moved[:, 0], yaw, atol=0.2, rtol=0)


@pytest.fixture(scope="module")
def turning() -> tuple[MotionBasis, Tensor]:
    """A basis whose head is yaw, pitch and roll of unlike spread; and what motion makes of these."""
    generator = torch.Generator().manual_seed(5)
    pose = torch.randn(FRAMES, 3, generator=generator) * torch.tensor([1.0, 0.5, 0.2])
    mixing = 0.1 * torch.randn(3, DIM, generator=generator)
    motion = pose @ mixing + 0.001 * torch.randn(FRAMES, DIM, generator=generator)
    return fit_motion_basis(motion, dict(zip(("yaw", "pitch", "roll"), pose.t(), strict=True))), mixing


DEGREES = torch.tensor([12.0, 12.0, 12.0])


def shown(mixing: Tensor, motion: Tensor) -> Tensor:
    """Pose ``(T, 5)`` of a portrait: 12 degrees for each unit, and a face that moves sideways with the yaw."""
    found = torch.linalg.lstsq(mixing.t(), motion.t()).solution.t()
    return torch.cat([found * DEGREES, 3 * found[:, :1], torch.zeros(len(found), 1)], dim=1)


@pytest.mark.parametrize("wanted", [(10.0, 0.0, 0.0), (0.0, 6.0, 0.0), (-5.0, 3.0, 2.0)])
def test_a_head_turns_by_what_is_seen_of_the_driver_whatever_is_read(turning, wanted):
    """Of the driver a third is read, and about another axis."""
    basis, mixing = turning
    own = torch.tensor([[0.3, -0.2, 0.1]]) @ mixing
    swing = torch.sin(torch.linspace(0, 6.28, 60))[:, None]
    asked = torch.tensor(wanted) * swing
    motion = (torch.tensor([[0.3, -0.2, 0.1]]) + asked.roll(1, dims=1) / 36) @ mixing
    pose = torch.cat([20 + asked, 50 + 3 * asked[:, :1] / 12, torch.full((60, 1), 50.0)], dim=1)
    moved = turned_as_seen(motion, own, basis, pose, shown(mixing, trial_turns(own, basis)))
    found = shown(mixing, moved) - shown(mixing, own)
    torch.testing.assert_close(found[:, :3], asked, atol=0.6, rtol=0.05)


def test_a_turn_that_is_too_far_is_shortened_not_turned_aside(turning):
    basis, mixing = turning
    own = torch.zeros(1, 3) @ mixing
    trials = shown(mixing, trial_turns(own, basis))
    pose = torch.zeros(60, 5)
    pose[:, 2] = torch.linspace(0, 80, 60)  # five times what a portrait can
    found = shown(mixing, turned_as_seen(own.expand(60, -1), own, basis, pose, trials))
    assert 5 < found[-1, 2] < 40
    assert found[-1, :2].abs().max() < 0.1 * found[-1, 2]


def test_coordinates_that_hardly_move_the_portrait_ask_for_no_wild_turns(turning):
    basis, mixing = turning
    own = torch.zeros(1, 3) @ mixing
    hardly = 0.02 * torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    pose = torch.linspace(0, 10, 60)[:, None] * torch.ones(5)
    found = basis.encode(turned_as_seen(own.expand(60, -1), own, basis, pose, hardly))
    assert (found - basis.encode(own)).abs().max() < 1


def test_lids_shut_whichever_way_their_coordinate_goes(faces, basis):
    """A fit leaves the sign of a coordinate to chance, and knows by the frames with shut lids which it is."""
    eyes, other = basis.blocks["eyes"], copy.deepcopy(basis)
    for buffer in (other.matrix[eyes], other.inverse[:, eyes], other.closed[eyes]):
        buffer.neg_()
    assert {basis.shutting, other.shutting} == {1, -1}
    shut = faces["blink"][:100] > 0
    assert (basis.shutting * basis.encode(faces["motion"][:100][shut])[:, eyes] > 1).all()
    lips, lids = torch.zeros(100), torch.zeros(100)
    motion, own = driver(faces, lips, lids, torch.zeros(100)), torch.zeros(1, DIM)
    seen = SeenFace(lips, faces["blink"][:100], torch.zeros(100, 5))
    found = [retargeted_motion(motion, own, one, seen) for one in (basis, other)]
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
    assert told(faces, found[0])[shut, 2].min() > 0.5
