"""Motion of a driver for a portrait: the plain change, and lips and lids counted from where both faces have them shut."""

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
    moved = told(faces, retargeted_motion(motion, own, basis, SeenFace(opening, blink, torch.zeros(60, 3))))
    unit = faces["lip_opening"].std()
    torch.testing.assert_close(moved[-1, 1] - moved[0, 1], 2 * unit, atol=0.3 * unit.item(), rtol=0)
    assert moved[31, 2] - moved[:30, 2].max() > 0.7
    torch.testing.assert_close(moved[:, 0], yaw, atol=0.2, rtol=0)


def test_a_head_turns_by_what_is_seen_of_the_driver_whatever_is_read(faces, basis):
    """The portrait shows 5 degrees of yaw and a degree of roll for each unit of yaw; of the driver a third is read."""
    degrees, still = torch.tensor([5.0, 0.0, 1.0]), torch.zeros(60)
    own = driver(faces, torch.zeros(1), torch.zeros(1), torch.tensor([0.5]))
    wanted = torch.sin(torch.linspace(0, 6.28, 60))
    lips = torch.linspace(0, 1, 60)
    motion = driver(faces, lips, still, 0.5 + wanted / 3)

    def shown(motion: Tensor) -> Tensor:
        return told(faces, motion)[:, :1] * degrees

    trials = shown(trial_turns(own, basis))
    rotation = torch.tensor([20.0, 3.0, -7.0]) + wanted[:, None] * degrees
    found = told(faces, turned_as_seen(motion, own, basis, rotation, trials))
    torch.testing.assert_close(found[:, 0] - 0.5, wanted, atol=0.1, rtol=0)
    torch.testing.assert_close(
        found[:, 1:], told(faces, motion)[:, 1:], atol=0.1, rtol=0
    )  # leakage of the ridge
    unknown = turned_as_seen(motion, own, basis, rotation, torch.full_like(trials, torch.nan))
    torch.testing.assert_close(unknown, motion)


def test_an_axis_that_a_portrait_cannot_turn_about_asks_for_no_wild_turns(faces, basis):
    own = driver(faces, torch.zeros(1), torch.zeros(1), torch.zeros(1))
    motion, generator = own.expand(60, -1), torch.Generator().manual_seed(3)
    rotation = torch.linspace(0, 30, 60)[:, None] * torch.ones(3)
    hardly = 0.02 * torch.randn(2, 3, generator=generator)
    found = told(faces, turned_as_seen(motion, own, basis, rotation, hardly))
    assert found[:, 0].abs().max() < 0.8 * 3
