"""The motion basis: invertible, whitened, and blocks that can be scaled without moving each other's readouts."""

import itertools

import pytest
import torch

from lightning_modules.networks.motion_basis import MotionBasis, basis_report, fit_motion_basis

NAMES = ("yaw", "pitch", "roll", "shift_x", "shift_y", "lip_opening", "lip_width", "blink")


def mixed(count: int = 4000) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Independent causes mixed into 20 coefficients by a random matrix, as an autoencoder would."""
    generator = torch.Generator().manual_seed(0)
    causes = torch.randn(count, 20, generator=generator)
    mixing = torch.randn(20, 20, generator=generator)
    motion = torch.tanh(0.02 * causes @ mixing) + 0.1
    return motion, {name: causes[:, i] for i, name in enumerate(NAMES)}


def test_encode_and_decode_invert_each_other_and_coordinates_are_white():
    motion, targets = mixed()
    for basis in (
        fit_motion_basis(motion),
        fit_motion_basis(motion, targets),
        fit_motion_basis(motion, targets, bent=True),
    ):
        coordinates = basis.encode(motion)
        assert torch.allclose(basis.decode(coordinates), motion, atol=1e-4)
        assert coordinates.mean(0).abs().max() < 1e-3
        assert torch.allclose(coordinates.std(0), torch.ones(20), atol=1e-2)


def test_blocks_tell_their_targets_and_no_others():
    motion, targets = mixed()
    basis = fit_motion_basis(motion, targets)
    sizes = {name: part.stop - part.start for name, part in basis.blocks.items()}
    assert sizes == {"head": 5, "mouth": 2, "eyes": 1, "rest": 12}
    report = basis_report(basis, motion, targets)
    assert report["yaw"]["head"] > 0.9
    assert report["lip_opening"]["mouth"] > 0.9
    assert report["blink"]["eyes"] > 0.9
    assert max(report["lip_opening"]["head"], report["yaw"]["mouth"], report["yaw"]["rest"]) < 0.1


def test_scaling_the_head_leaves_the_lips_where_they_were():
    motion, targets = mixed()
    basis = fit_motion_basis(motion, targets)
    readout = torch.linalg.lstsq(motion - motion.mean(0), targets["lip_opening"][:, None]).solution
    coordinates = basis.encode(motion)
    coordinates[:, basis.blocks["head"]] *= 0
    still = basis.decode(coordinates)
    before, after = (motion - motion.mean(0)) @ readout, (still - motion.mean(0)) @ readout
    assert torch.corrcoef(torch.cat([before, after], 1).t())[0, 1] > 0.99


def test_what_is_bent_stays_in_bounds_and_comes_back_as_it_was():
    """Coordinates that no frame had are those of coefficients that a renderer takes, and are found in them again."""
    motion, targets = mixed()
    bent, straight = (fit_motion_basis(motion, targets, bent=bent) for bent in (True, False))
    wild = 30 * torch.randn(200, 20, generator=torch.Generator().manual_seed(1))
    coefficients = bent.decode(wild)
    assert coefficients.abs().max() < 1.06
    assert straight.decode(wild).abs().max() > 1.06
    mild = 3 * torch.randn(200, 20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(bent.encode(bent.decode(mild)), mild, atol=1e-2, rtol=1e-2)
    far = mild * 6 / (mild @ bent.inverse.t()).abs().max()  # as far as lids go whose motion is doubled
    torch.testing.assert_close(bent.encode(bent.decode(far)), far, atol=0.1, rtol=0.1)
    loaded = MotionBasis(20, bent=True)
    loaded.load_state_dict(bent.state_dict())
    assert torch.equal(loaded.encode(motion), bent.encode(motion))
    assert not straight.bent


def test_a_basis_without_targets_has_no_blocks_and_survives_saving():
    motion, targets = mixed(400)
    assert fit_motion_basis(motion).blocks == {}
    basis, loaded = fit_motion_basis(motion, targets), MotionBasis(20)
    loaded.load_state_dict(basis.state_dict())
    assert loaded.blocks == basis.blocks
    assert torch.equal(loaded.encode(motion), basis.encode(motion))


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="too few"):
        fit_motion_basis(torch.randn(40, 20))


def test_closed_lips_are_remembered():
    motion, targets = mixed()
    basis = fit_motion_basis(motion, targets)
    shut = targets["lip_opening"] <= torch.quantile(targets["lip_opening"], 0.1)
    lips = [place for place in range(20) if place not in range(20)[basis.blocks["eyes"]]]
    expected = basis.encode(motion[shut]).mean(0)
    torch.testing.assert_close(basis.closed[lips], expected[lips], atol=1e-3, rtol=1e-3)
    assert fit_motion_basis(motion).closed.eq(0).all()


@pytest.mark.parametrize("dim", [1, 4, 6, 8])
def test_a_basis_of_few_dimensions_takes_what_fits_and_stays_invertible(dim):
    motion, targets = mixed()
    basis = fit_motion_basis(motion[:, :dim], targets)
    coordinates = basis.encode(motion[:, :dim])
    assert torch.allclose(basis.decode(coordinates), motion[:, :dim], atol=1e-4)
    slices = list(basis.blocks.values())
    assert slices[0].start == 0
    assert slices[-1].stop == dim
    assert all(a.stop == b.start for a, b in itertools.pairwise(slices))
    assert all(s.stop > s.start for s in slices)
    assert ("mouth" in basis.blocks) is (dim > 5)
    basis_report(basis, motion[:, :dim], targets)


def test_a_direction_that_another_block_spans_is_left_out():
    motion, targets = mixed()
    basis = fit_motion_basis(motion, targets | {"blink": targets["yaw"]})
    assert set(basis.blocks) == {"head", "mouth", "rest"}
    assert torch.allclose(basis.decode(basis.encode(motion)), motion, atol=1e-4)
