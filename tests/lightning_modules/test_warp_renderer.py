"""The warp renderer: what it shows before it has learnt anything, at every size, and what each of its parts is for."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from datamodules.errors import UserError
from lightning_modules.networks.face_view_head import VIEWS
from lightning_modules.networks.region_painter import Patch, cut_windows, window_corners
from lightning_modules.networks.registry import build_network
from lightning_modules.networks.warp_renderer import OPEN, WarpRenderer, warp

MOST_FLOPS = 3.3e9
"""Of a frame at 256: what two CPU cores render 40 times a second."""


def small(**options) -> WarpRenderer:
    torch.manual_seed(0)
    given = {
        "size": 64,
        "width": 8,
        "blocks": 1,
        "latent_dim": 16,
        "motion_dim": 6,
        "face_views": 8,
        "style_dim": 8,
        "painters": 8,
    }
    return build_network("warp_renderer", **(given | options))  # fmt: skip


def pictures(count: int = 4, side: int = 64) -> Tensor:
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(noise, (side, side), mode="bicubic") * 2 - 1).clamp(-1, 1)


def lively(model: WarpRenderer) -> WarpRenderer:
    """One whose layers that start as nothing do something."""
    torch.manual_seed(2)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_no_flow_is_a_copy_and_a_pixels_flow_moves_by_a_pixel(mode):
    image = pictures(2, 32)
    still = torch.zeros(2, 2, 32, 32)
    torch.testing.assert_close(warp(image, still, mode), image, atol=1e-5, rtol=0)
    right = still.clone()
    right[:, 0] = 2 / 32  # half picture widths
    torch.testing.assert_close(
        warp(image, right, mode)[..., 2:-3], image[..., 3:-2], atol=1e-5, rtol=0
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
            warp(pictures(2), found.flow, mode).clamp(-1, 1), found.warped, atol=1e-4, rtol=0
        )


def test_untrained_it_shows_the_portrait_in_every_motion():
    model, source = small(), pictures(2)
    found = model(source, pictures(4)[2:])
    assert not found.flow.any()
    torch.testing.assert_close(found.warped, source, atol=1e-5, rtol=0)
    share = torch.sigmoid(torch.tensor(OPEN))
    # paint is black before it learns; windows are covered a little
    error = (found.frame - share * source).abs()
    assert error.max() < 0.06
    assert error[..., :4, :].max() < 1e-5


@pytest.mark.parametrize("factor", [2, 4])
def test_one_network_renders_larger_portraits_in_the_same_motion(factor):
    model = lively(small())
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


def test_every_part_learns():
    model = lively(small())
    found = model(pictures(2), pictures(4)[2:])
    (found.frame.square().mean() + found.places.square().mean() + found.person.mean()).backward()
    idle = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert not idle


def test_what_is_not_the_person_stays_where_it_was():
    model, source = lively(small(painters=0)), pictures(2)
    nn.init.zeros_(model.paint.weight)
    with torch.no_grad():
        model.paint.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 30.0, -30.0]).repeat_interleave(4))
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
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


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


def test_windows_lie_in_the_picture_and_come_back_where_they_were():
    image = pictures(2)
    centres = torch.tensor([[[0.5, 0.25], [-3.0, 9.0]], [[1.0, 0.0], [torch.nan, 0.5]]])
    corners = window_corners(centres, (8, 16), 64)
    assert corners[0].tolist() == [[12, 24], [56, 0]]
    assert ((corners >= 0) & (corners <= 64 - torch.tensor([8, 16]))).all()
    windows = cut_windows(image, corners, (8, 16))
    torch.testing.assert_close(windows[0, 0], image[0, :, 12:20, 24:40])
    whole = Patch(corners, -windows, torch.ones(2, 2, 1, 8, 16))
    painted, share = whole.on(image, torch.ones(2, 1, 64, 64))
    torch.testing.assert_close(cut_windows(painted, corners, (8, 16)), -windows)
    assert (share == 0).sum() == 4 * 8 * 16
    untouched = share.expand_as(image) == 1
    torch.testing.assert_close(painted[untouched], image[untouched])


def test_paint_fades_to_nothing_at_the_windows_edges():
    model = lively(small()).eval()
    with torch.no_grad():
        for painter in model.painters.values():
            painter.paint.bias.copy_(torch.tensor([3.0, 3.0, 3.0, 30.0]).repeat_interleave(4))
    found, bare = model(pictures(1), pictures(1)), lively(small(painters=0)).eval()(pictures(1), pictures(1))
    changed = (found.mask - bare.mask).abs()[0, 0] > 0.5
    assert changed.any()
    rows = torch.nonzero(changed.any(dim=1)).flatten()
    assert len(rows) < 64 * (0.25 + 0.125)  # an edge's alpha is below a half


def test_a_frame_costs_what_two_cpu_cores_can_pay():
    with torch.device("meta"):
        model = build_network("warp_renderer", size=256)
        source = model.encode(torch.zeros(1, 3, 256, 256))
        with FlopCounterMode(display=False) as count:
            model.decode(source, torch.zeros(1, 20))
    assert 1e9 < count.get_total_flops() < MOST_FLOPS
