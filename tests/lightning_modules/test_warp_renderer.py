"""The warp renderer: what it shows before it has learnt anything, at every size, and what each of its parts is for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from datamodules.batches import REGION_NAMES, FramePairBatch
from datamodules.errors import UserError
from lightning_modules.checkpoints import motion_space_of
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.losses.base import RenderedPairs
from lightning_modules.losses.face import PlaceLoss
from lightning_modules.losses.flow import LandmarkLoss, OcclusionLoss
from lightning_modules.losses.reconstruction import L1Loss
from lightning_modules.motion_autoencoder import MotionAutoencoderModule
from lightning_modules.networks.base_renderer import DecoderOutput
from lightning_modules.networks.discriminator import Discriminator
from lightning_modules.networks.disguise import disguised
from lightning_modules.networks.face_view_head import VIEWS
from lightning_modules.networks.layers import warp_by_centres
from lightning_modules.networks.registry import build_network
from lightning_modules.networks.source_pyramid import filled, without_holes
from lightning_modules.networks.warp_renderer import WarpRenderer
from lightning_modules.networks.windows import (
    cut_windows,
    window_corners,
)
from tests.lightning_modules.small_warp import SMALL, lively, pictures, small

MOST_FLOPS = 3.3e9
"""Of a frame at 256, as the shipped model makes it: what two CPU cores render 40 times a second."""


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_no_flow_is_a_copy_and_a_pixels_flow_moves_by_a_pixel(mode):
    image = pictures(2, 32)
    still = torch.zeros(2, 2, 32, 32)
    torch.testing.assert_close(warp_by_centres(image, still, mode), image, atol=1e-5, rtol=0)
    right = still.clone()
    right[:, 0] = 2 / 32  # half picture widths
    torch.testing.assert_close(
        warp_by_centres(image, right, mode)[..., 2:-3], image[..., 3:-2], atol=1e-5, rtol=0
    )  # looks to the right


def test_the_flow_is_that_of_all_renderers():
    """A portrait moved by the flow that is told is what is told to be moved, here as in the paper's renderer."""
    channels = {4: 8, 8: 8, 16: 8, 32: 8, 64: 8}
    torch.manual_seed(0)
    paper = build_network("paper_renderer", size=64, channels=channels, latent_dim=16, motion_dim=6)
    nn.init.normal_(paper.scales[-2].to_flow.weight, std=0.05)
    for model in (paper, lively(small())):
        found = model(pictures(2), pictures(4)[2:])
        assert found.flow.abs().max() > 0.01
        mode = "bicubic" if isinstance(model, WarpRenderer) else "bilinear"
        torch.testing.assert_close(
            warp_by_centres(pictures(2), found.flow, mode).clamp(-1, 1), found.warped, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("detail", [1, 2])
def test_untrained_it_shows_the_portrait_in_every_motion(detail):
    model, source = small(detail=detail), pictures(2)
    found = model(source, pictures(4)[2:])
    assert not found.flow.any()
    torch.testing.assert_close(found.warped, source, atol=1e-5, rtol=0)
    assert (found.frame - source).abs().max() < 0.05  # paint is the portrait, blurred, and covers a little
    assert (found.frame - source).abs().mean() > 1e-4


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("detail", [1, 2])
def test_one_network_renders_larger_portraits_in_the_same_motion(factor, detail):
    model = lively(small(detail=detail))
    driving, large = pictures(4)[2:], pictures(2, 64 * factor)
    least = F.interpolate(large, (64, 64), mode="area")
    big, usual = model(large, driving), model(least, driving)
    assert big.frame.shape == (2, 3, 64 * factor, 64 * factor)
    for name in ("frame", "flow", "mask", "person", "warped"):
        one, other = getattr(big, name), getattr(usual, name)
        error = (F.interpolate(one, (64, 64), mode="area") - other).abs().mean()
        assert error < 0.05, name
    torch.testing.assert_close(big.places, usual.places, atol=1e-3, rtol=0)
    with FlopCounterMode(display=False) as at_large:
        model.decode(model.encode(large), model.motion(driving))
    with FlopCounterMode(display=False) as at_usual:
        model.decode(model.encode(least), model.motion(driving))
    assert at_large.get_total_flops() == at_usual.get_total_flops()  # no convolution at that size


def test_with_detail_it_paints_more_finely_than_it_looks():
    plain = torch.full((1, 3, 128, 128), 0.3)
    fine = []
    for detail in (1, 2):
        found = lively(small(detail=detail)).eval()(plain, pictures(1)).frame
        fine.append((found - F.interpolate(F.avg_pool2d(found, 2), (128, 128))).abs().mean())
    assert fine[1] > 3 * fine[0]
    with pytest.raises(UserError, match="detail must be 1 or 2"):
        small(detail=3)


def test_places_stand_in_the_order_that_batches_promise():
    assert REGION_NAMES == ("mouth", "left_eye", "right_eye")
    mouth, left, right = small().places(torch.zeros(1, 6), torch.zeros(1, 16))[0]
    assert mouth[1] > left[1]
    assert left[0] > 0.5 > right[0]  # the person's left is the picture's right


def test_every_part_learns():
    model = lively(small())
    found = model(pictures(2), pictures(4)[2:])
    (found.frame.square().mean() + found.places.square().mean() + found.person.mean()).backward()
    idle = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert not idle


def test_noise_in_training_reaches_what_the_network_decides_and_not_the_pixels_that_it_moves():
    model, source, driving = lively(small(input_noise=0.5)), pictures(2), pictures(4)[2:]
    once, again = (model.train()(source, driving) for _ in range(2))
    for field in ("flow", "mask", "person", "places"):
        assert not torch.equal(getattr(once, field), getattr(again, field)), field
    still = model.decode(model.encode(source)._replace(motion=torch.zeros(2, 6)), torch.zeros(2, 6))
    moved = warp_by_centres(source, still.flow, "bicubic").clamp(-1, 1)
    torch.testing.assert_close(still.warped, moved, atol=0.02, rtol=0)
    calm = [model.eval()(source, driving).frame for _ in range(2)]
    assert torch.equal(*calm)


def test_what_is_not_the_person_stays_where_it_was():
    model, source = lively(small(painters=0)), pictures(2)
    nn.init.zeros_(model.paint.weight)
    with torch.no_grad():
        model.paint.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 30.0, -30.0]).repeat_interleave(4))
        model.source.person[-1].weight.zero_()
        model.source.person[-1].bias.fill_(-30)
    found = model(source, pictures(4)[2:])
    assert (found.warped - source).abs().max() > 0.02
    torch.testing.assert_close(found.frame, source, atol=1e-5, rtol=0)
    everything = lively(small(painters=0, person=False))
    assert everything(source, pictures(4)[2:]).person is None


def test_without_occlusion_paint_is_added_to_what_is_moved():
    model = lively(small(painters=0, occlusion=False, person=False))
    found = model(pictures(2), pictures(4)[2:])
    assert (found.mask == 1).all()
    assert ((found.frame - found.warped).abs() <= 1).all()


def test_a_still_portrait_is_encoded_once():
    model = lively(small()).eval()
    source, motion = model.encode(pictures(1)), model.motion(pictures(3))
    together = model.decode(source.expand(3), motion).frame
    alone = torch.cat([model.decode(source, one[None]).frame for one in motion])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_factors_are_seen_in_their_own_views_alone():
    model = small(factors=[2, 2, 2]).eval()
    image, changed = pictures(1), pictures(1)
    x0, _, x1, y1 = (round(64 * share) for share in VIEWS[1][0])
    above = round(64 * VIEWS[2][0][3])  # below the eyes' view
    changed[..., above:y1, x0:x1] *= -0.5
    moved = (model.motion(image) - model.motion(changed)).abs()[0] > 1e-6
    assert moved.tolist() == [True, True, True, True, False, False]
    with pytest.raises(UserError, match="add up to 6"):
        small(factors=[2, 2, 1])


def test_lips_and_lids_may_be_read_off_features_that_do_not_train():
    model = small(known_features=True).train()
    features = model.motion_head.features
    before = {name: value.clone() for name, value in features.state_dict().items()}
    for side in (64, 128):
        model.motion(pictures(2, side)).sum().backward()
    assert not any(one.requires_grad for one in features.parameters())
    assert all(
        torch.equal(value, before[name]) for name, value in features.state_dict().items()
    )  # norms, too
    towers = model.motion_head.towers
    assert all(one.grad.any() for one in towers.parameters())
    assert not any("features" in name for name, _ in small().named_parameters())
    kept = build_network("warp_renderer", **SMALL, known_features=True)
    kept.load_state_dict(model.state_dict())
    torch.testing.assert_close(kept.eval().motion(pictures(2)), model.eval().motion(pictures(2)))


def test_a_portrait_of_no_whole_multiple_is_refused():
    with pytest.raises(ValueError, match="96 px is no multiple of 64"):
        small().encode(pictures(1, 96))


def test_behind_a_person_the_background_goes_on():
    scene = torch.full((1, 3, 64, 64), 0.2)
    scene[..., 32:] = 0.6
    known = torch.ones(1, 1, 64, 64)
    known[..., 20:50, 10:28] = 0
    person = torch.where(known == 1, scene, -torch.ones(()))
    torch.testing.assert_close(filled(person, known), scene, atol=0.1, rtol=0)
    torch.testing.assert_close((filled(person, known) * known), scene * known)  # what is known stays
    nothing = filled(person, torch.zeros_like(known))
    assert nothing.isfinite().all()
    model = lively(small(painters=0)).eval()
    with torch.no_grad():
        model.source.person[-1].weight.zero_()
        for stood, kept in ((-30, True), (30, False)):
            model.source.person[-1].bias.fill_(stood)
            behind, _ = model.encode(pictures(1)).features[1]
            assert torch.allclose(behind, pictures(1), atol=1e-4) is kept


def test_a_mouth_that_looks_like_background_is_of_the_person_all_the_same():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:56, 16:48] = 1
    holed = mask.clone()
    holed[..., 40:46, 24:40] = 0  # a mouth
    torch.testing.assert_close(without_holes(holed)[..., 40:46, 24:40], torch.ones(1, 1, 6, 16))
    assert (without_holes(holed) - mask).abs().mean() < 0.01
    wide = mask.clone()
    wide[..., 24:48, 20:44] = 0
    assert without_holes(wide)[..., 32:40, 28:36].max() == 0


def test_a_disguise_changes_colours_and_light_and_no_shapes():
    torch.manual_seed(0)
    still = pictures(1, 64).expand(6, -1, -1, -1)
    torch.testing.assert_close(disguised(still, 0.0), still, atol=2e-3, rtol=0)
    changed = disguised(still, 1.0)
    assert changed.abs().max() <= 1
    assert (changed[1:] - changed[:1]).abs().mean(dim=(1, 2, 3)).min() > 0.02  # each its own
    grey = [one.mean(dim=1).flatten(1) for one in (still, changed)]
    likeness = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*grey, strict=True)]
    assert min(likeness) > 0.4
    model = lively(small(disguise=1.0)).train()
    assert not torch.equal(*(model.motion(still[:2]) for _ in range(2)))
    torch.testing.assert_close(model.encode(still[:2]).image, still[:2])
    assert torch.equal(*(model.eval().motion(still[:2]) for _ in range(2)))


def test_painters_that_learn_on_leave_the_motion_space_as_it_is():
    model = lively(small())
    space = motion_space_of(model)
    with torch.no_grad():
        for part in model.parts()["paint"]:
            for parameter in part.parameters():
                parameter.add_(1)
    assert motion_space_of(model) == space
    before = model.eval().encode(pictures(1)).latent
    for part in (model.motion_head, model.source, model.own_motion):
        with torch.no_grad():
            next(part.parameters()).add_(0.1)
        assert motion_space_of(model) != space
        space = motion_space_of(model)
    assert not torch.equal(model.encode(pictures(1)).latent, before)


def test_paint_that_learns_on_leaves_the_flow_as_it_is():
    """By pixels alone lips would stay nearer than points have brought them."""
    model = lively(small()).eval()
    before = model(pictures(1), pictures(2)[1:])
    for name, moves in (("paint", False), ("flow", True)):
        with torch.no_grad():
            for part in model.parts()[name]:
                for parameter in part.parameters():
                    parameter.add_(0.05)
        after = model(pictures(1), pictures(2)[1:])
        window = window_corners(after.places[:, :1], (16, 24), 64)
        flows = [cut_windows(found.flow, window, (16, 24)) for found in (before, after)]
        assert torch.equal(*flows) is not moves
        assert not torch.allclose(after.frame, before.frame, atol=1e-3)


@pytest.mark.parametrize(
    "options", [{}, {"painters": 0}, {"occlusion": False}], ids=["whole", "no painters", "no occlusion"]
)
def test_the_outline_is_the_flow_of_the_frame(options):
    model = lively(small(**options)).eval()
    if model.painters:
        with torch.no_grad():
            eye = model.painters["eye"].paint
            eye.weight[-2:] = 0  # its flow, by what it sees
            eye.bias[-2:] = 0
    motion = torch.linspace(-1, 1, 12).view(2, 6)
    for side, near in ((64, 1e-6), (128, 0.1)):
        source = model.encode(pictures(2, side))
        whole, outline = model.decode(source, motion), model.outline(source, motion)
        flow = F.interpolate(whole.flow, (64, 64), mode="area")
        assert (outline.flow - flow).abs().mean() < near * flow.std()
        torch.testing.assert_close(outline.shown, whole.shown)
        assert (outline.places is None) == (not model.painters)
        assert outline.mask is None


def test_only_a_part_that_learns_from_points_alone_renders_nothing():
    network = lively(small())
    known = torch.rand(2, 2, 9, 2), torch.zeros(2, 2, 8), torch.ones(2, 2, 9), torch.ones(2, 2, 64, 64)
    batch = FramePairBatch(*[pictures(2)] * 3, torch.zeros(2, 3, 4), *known)
    points = {"place": PlaceLoss(), "landmark": LandmarkLoss(), "occlusion": OcclusionLoss()}
    gan = AdversarialLoss(Discriminator(64, {4: 8, 8: 8, 16: 8, 32: 8, 64: 8}), torch.optim.SGD)

    def rendered(module: MotionAutoencoderModule) -> bool:
        return module.render(batch).decoded.mask is not None

    for losses, part, judge in (
        (points | {"l1": L1Loss()}, "flow", None), (points, "paint", None), (points, "flow", gan), (points, "all", None),
    ):  # fmt: skip
        assert rendered(MotionAutoencoderModule(network, torch.optim.SGD, losses, trainable=part, gan=judge))
    module = MotionAutoencoderModule(network, torch.optim.SGD, points, trainable="flow")
    assert not rendered(module)
    assert rendered(module.eval())


def test_what_hides_points_is_judged_with_and_without_paint():
    shown, points = torch.rand(2, 1, 16, 16), torch.rand(2, 2, 9, 2)
    known = torch.zeros(2, 2, 8), torch.ones(2, 2, 9), torch.ones(2, 2, 4, 4)
    batch = FramePairBatch(*[pictures(2, 16)] * 3, torch.zeros(2, 3, 4), points, *known)
    outline = DecoderOutput(pictures(2, 16), shown=shown)
    value = OcclusionLoss()(RenderedPairs(None, None, outline), batch)
    both = OcclusionLoss()(RenderedPairs(None, None, outline._replace(mask=shown)), batch)
    torch.testing.assert_close(value, both)
    inverse = OcclusionLoss()(RenderedPairs(None, None, outline._replace(mask=1 - shown)), batch)
    assert not torch.allclose(value, inverse)


def test_hidden_points_in_mouth_and_eyes_weigh_more():
    points = torch.tensor([0.25, 0.75])[None, None, :, None].expand(
        1, 2, -1, 2
    )  # the first in the mouth's box
    regions = torch.zeros(1, 3, 4)
    regions[:, 0] = torch.tensor([0.2, 0.2, 0.3, 0.3])
    hidden = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])  # the first in the source
    batch = FramePairBatch(
        *[pictures(1, 16)] * 3, regions, points, torch.zeros(1, 2, 8), hidden, torch.ones(1, 2, 4, 4)
    )
    shown = torch.full((1, 1, 16, 16), 0.9)
    pairs = RenderedPairs(None, None, DecoderOutput(pictures(1, 16), shown=shown))
    wrong, right = -torch.tensor([0.1, 0.9]).log()
    torch.testing.assert_close(OcclusionLoss()(pairs, batch), (wrong + right) / 2)
    torch.testing.assert_close(OcclusionLoss(region_gain=9.0)(pairs, batch), (10 * wrong + right) / 11)


def test_a_frame_costs_what_two_cpu_cores_can_pay():
    with torch.device("meta"):
        model = build_network("warp_renderer", size=128, detail=2)
        source = model.encode(torch.zeros(1, 3, 256, 256))
        with FlopCounterMode(display=False) as count:
            model.decode(source, torch.zeros(1, 20))
    assert 1e9 < count.get_total_flops() < MOST_FLOPS
